"""In what condition macOS is, for ``keychain-auth doctor``. See ``linux/condition.py``."""

from __future__ import annotations

import os
from shlex import quote

from keychain_auth.platform.macos.service import LABEL
from keychain_auth.platform.remedies import Remedies


def remedies(folder: str) -> Remedies:
    """The daemon is the agent that ``install`` loaded; one that was started by hand ends with Ctrl-C."""
    return Remedies(
        clock="sudo sntp -sS time.apple.com",
        room=f"df -h {quote(folder)}",
        key_memory="ulimit -l unlimited",
        restart=f"launchctl kickstart -k gui/{os.geteuid()}/{LABEL}",
    )
