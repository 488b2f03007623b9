"""``keychain-auth --system COMMAND``: the daemon of the whole machine, administered by root.

Contract: a command for it does not run as root. It becomes the daemon's user, who owns the policy, the vault and the
record, and keeps the one capability to read programs in other people's folders (``platform.handing_on``). So nothing
that root's command writes is unreadable to the daemon, and a fault in a command is no fault of root's.
"""

from __future__ import annotations

import os
import stat
import sys

from keychain_auth.daemon.places import Places
from keychain_auth.errors import KeychainAuthError, NotFound, quoted
from keychain_auth.platform import paths

_AS_ROOT = frozenset(("start", "install", "uninstall"))


def enter(command: str, root: str) -> None:
    """Let ``command`` mean the daemon of the machine below ``root``. Raises KeychainAuthError."""
    if sys.platform != "linux":
        raise KeychainAuthError(f"there is no daemon for the whole machine on {sys.platform}")
    paths.use_system(os.path.abspath(root))
    if command in _AS_ROOT or os.geteuid() != 0:
        return
    from keychain_auth.platform.handing_on import READS_ALL, become  # noqa: PLC0415 - Linux only, and root only

    become(*daemon_user(), READS_ALL)


def daemon_user() -> tuple[int, int]:
    """User and group of the daemon: whose the data folder is. Raises NotFound, KeychainAuthError."""
    folder = paths.data_dir()
    try:
        about = os.stat(folder)
    except FileNotFoundError:
        hint = "sudo keychain-auth install --system"
        raise NotFound(f"there is no {folder}: nothing is installed", hint=hint) from None
    if about.st_uid == 0 or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KeychainAuthError(
            f"{folder} must belong to the daemon's own user, and be writable by nobody else",
            hint="sudo keychain-auth install --system",
        )
    return about.st_uid, about.st_gid


def start_as_daemon(places: Places) -> None:
    """Root makes the sockets, and then this very command is run by the daemon's user. Does not return.

    Where systemd makes the sockets, this is not needed: then the daemon's user starts the command.
    """
    from keychain_auth.platform import handing_on  # noqa: PLC0415 - Linux only, and root only

    uid, gid = daemon_user()
    folder = os.path.dirname(places.agent_socket)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    about = os.stat(folder)
    if about.st_uid != 0 or about.st_mode & 0o022:
        raise KeychainAuthError(
            f"{folder} must be root's, and writable by nobody else", hint=f"ls -ld {quoted(folder)}"
        )
    agent = handing_on.bind_for(places.agent_socket, 0o666, 0, 0)
    admin = handing_on.bind_for(places.admin_socket, 0o600, uid, gid)
    handing_on.become(uid, gid, handing_on.SERVES_ALL, ambient=True)
    handing_on.hand_over([(each.fileno(), False) for each in (agent, admin)], [sys.executable, *sys.orig_argv[1:]])
