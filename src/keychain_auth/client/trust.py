"""Is the other end of a fresh connection the daemon of this user, or root's? Asked before anything is sent.

SO_PEERCRED on the connecting side holds the credentials of the process that called listen(2), taken at that moment
(unix(7)); the kernel copies them at connect(2), and nobody can change them afterwards. With socket activation that
process is systemd: the user's own, or root's. Thus an impostor who waits on our path with a socket of his own is
known by his uid, and gets no byte of a request.

The folder is looked at as well: whoever can write it can rename sockets in it, and so turn a request over to
another program of the right user that happens to listen (an ssh-agent, say).

What it does not promise: protection from other programs of the same user, or from root. They can bind the
path themselves.
"""

from __future__ import annotations

import _socket as socket
import os
import stat
import struct
import sys

from keychain_auth.errors import UntrustedDaemon, quoted

_ROOT = 0
_UCRED = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_XUCRED = struct.Struct("=II68x")  # struct xucred of macOS (sys/ucred.h): version, uid, groups
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1  # of macOS, sys/un.h: who called listen(2), as SO_PEERCRED has it
_system: str = sys.platform  # a plain text: so that type checkers look at all of it on every system
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def check_listener(connected: socket.socket, path: str) -> None:
    """Raise UntrustedDaemon unless the listener at ``path`` is of this user or root, in a folder of the same owner."""
    listener_uid = _listener_uid(connected)
    folder = os.path.dirname(path)
    try:
        about = os.stat(folder)
    except OSError as error:
        problem: tuple[str, str] | None = (f"its folder {folder} cannot be looked at ({error.strerror})", "")
    else:
        problem = why_not(listener_uid, about.st_uid, about.st_mode, os.geteuid(), folder)
    if problem is not None:
        what, hint = problem
        raise UntrustedDaemon(
            f"what listens on {path} is not trusted: {what}; nothing was sent to it",
            hint=hint or f"ls -ld {quoted(folder)} {quoted(path)}",
        )


def _listener_uid(connected: socket.socket) -> int:
    if _system == "darwin":
        _, uid = _XUCRED.unpack(connected.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))
    else:
        _, uid, _ = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def why_not(listener_uid: int, folder_uid: int, folder_mode: int, own_uid: int, folder: str) -> tuple[str, str] | None:
    """What is wrong and the command that mends it ("" if there is none), or None if all is well. Pure."""
    if listener_uid not in (own_uid, _ROOT):
        return f"it belongs to user {listener_uid}, not to user {own_uid} or root", ""
    if folder_uid != listener_uid:
        return f"user {listener_uid} listens there, but the folder {folder} belongs to user {folder_uid}", ""
    if folder_mode & _OTHERS_WRITE:
        return f"other users can write the folder {folder}", f"chmod go-w {quoted(folder)}"
    return None
