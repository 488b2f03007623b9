"""Where macOS keeps what: one folder of ours in the user's library, and one among the user's logs.

Contract (protocol, sections "Transport" and "Files"): pure look-ups. Nothing is created, and nothing is said about
whether it exists.
"""

from __future__ import annotations

import os

from keychain_auth.errors import KeychainAuthError

_NAME = "keychain-auth"
LONGEST_SOCKET_PATH = 103  # sun_path holds 104 bytes with its NUL (sys/un.h)


def base_dir() -> str:
    """Our folder for sockets, policy, queue and vault: ``~/Library/Application Support/keychain-auth``."""
    return os.path.join(_library(), "Application Support", _NAME)


def log_dir() -> str:
    """Our folder for the audit log and the daemon's log: ``~/Library/Logs/keychain-auth``."""
    return os.path.join(_library(), "Logs", _NAME)


def _library() -> str:
    home = os.environ.get("HOME", "")
    if os.path.isabs(home):
        return os.path.join(home, "Library")
    import pwd  # noqa: PLC0415 - only for programs that run without $HOME

    try:
        return os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, "Library")
    except KeyError:
        raise KeychainAuthError(
            f"$HOME is not set and user {os.geteuid()} has no home folder", hint="export HOME=/path/to/home"
        ) from None
