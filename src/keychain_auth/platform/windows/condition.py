"""In what condition Windows is, for ``keychain-auth doctor``. See ``linux/condition.py``."""

from __future__ import annotations

import subprocess

from keychain_auth.oslayer import system
from keychain_auth.platform.remedies import Remedies
from keychain_auth.platform.windows.service import task_name


def remedies(folder: str) -> Remedies:
    """The daemon is the task that ``install`` registered; one that was started by hand ends with its window. Memory
    that VirtualLock refuses needs a larger working set, for which there is no command."""
    task = subprocess.list2cmdline([task_name(system.user_name(system.user_id()))])
    drive = folder[:2]
    return Remedies(
        clock="w32tm /resync",
        room=f"fsutil volume diskfree {drive}",
        key_memory="",
        restart=f"schtasks /End /TN {task} & schtasks /Run /TN {task}",
    )
