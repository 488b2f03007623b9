"""Sockets that somebody else made: those that systemd hands over (sd_listen_fds(3)), and those of the daemon before.

Contract:
* The variables count only if LISTEN_PID is this process: they may have been meant for a parent. They are taken away in
  any case, so that no child believes them.
* Each descriptor becomes close-on-exec, must be a listening Unix stream socket at an absolute path, and one of the
  paths that are to be served. Anything else is refused: a daemon that ignored a socket would leave programs waiting for
  ever.
* SO_PASSCRED is set, and where it may not have been set from the beginning (``PassCredentials=yes`` is missing in the
  unit) on each accepted connection too. The kernel names the sender of what is sent before accept(2) in any case
  (unix_maybe_add_creds in net/unix/af_unix.c); what is sent between accept and that carries no sender, and is not acted
  on (``caller_changed``).

The other way round, ``hand_over`` makes this process a new daemon that finds the same sockets: nobody who connects
meanwhile is refused, because they are never closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Collection, Sequence
from typing import NamedTuple

from keychain_auth.errors import KeychainAuthError

_OURS = "keychain-auth"  # the name of a socket that a daemon made (LISTEN_FDNAMES)
_FIRST = 3  # SD_LISTEN_FDS_START
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_notify_socket = ""


class Handed(NamedTuple):
    """A listening socket. ``ours``: a daemon made it, so a daemon removes it at the end. ``late``: SO_PASSCRED may
    have been set later, and connections that wait already did not inherit it."""

    socket: socket.socket
    ours: bool
    late: bool


def take(paths: Collection[str]) -> dict[str, Handed]:
    """The listening sockets handed to this process, by path. Raises KeychainAuthError."""
    global _notify_socket  # noqa: PLW0603 - the one that systemd gave this process, out of its children's sight
    _notify_socket = os.environ.pop("NOTIFY_SOCKET", "") or _notify_socket
    pid, count, names, _ = [os.environ.pop(name, "") for name in _VARIABLES]
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    sockets: dict[str, Handed] = {}
    ours = names.split(":")
    for number in range(_FIRST, _FIRST + int(count)):
        try:
            os.set_inheritable(number, False)
            given = socket.socket(fileno=number)
        except OSError:
            raise _unusable(f"descriptor {number} is no socket") from None
        path = _listening_path(given)
        if path not in paths or path in sockets:
            raise _unusable(f"it was handed {path or 'a socket that is no listening Unix socket'}, and serves "
                            f"{', '.join(sorted(paths))}")  # fmt: skip
        made = ours[number - _FIRST : number - _FIRST + 1] == [_OURS]
        # One that systemd made may have had it set by the daemon before, after somebody connected.
        late = not made or not given.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
        given.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        given.setblocking(False)
        sockets[path] = Handed(given, made, late)
    return sockets


def _listening_path(given: socket.socket) -> str:
    """Where it listens, "" if it is anything else than a listening Unix stream socket at an absolute path."""
    if given.family != socket.AF_UNIX or given.type != socket.SOCK_STREAM:
        return ""
    if not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return ""
    name = given.getsockname()
    path = os.fsdecode(name)
    return path if os.path.isabs(path) else ""


def _unusable(why: str) -> KeychainAuthError:
    return KeychainAuthError(
        f"the sockets handed to the daemon are not its own: {why}",
        hint="let ListenStream= of the socket unit and --socket of the service agree, or: keychain-auth install",
    )


def notify(state: str) -> None:
    """Tell the service manager ``state`` ("READY=1", sd_notify(3)); nothing where there is none."""
    if not _notify_socket.startswith(("/", "@")):
        return
    address = "\0" + _notify_socket[1:] if _notify_socket[0] == "@" else _notify_socket
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), address)


def hand_over(listeners: Sequence[tuple[int, bool]], words: list[str]) -> None:
    """Become the program ``words``, which finds the descriptors ``listeners`` as ``take`` does, each with whether a
    daemon made it. Raises OSError.

    The pid stays. Everything else that is open here is close-on-exec.
    """
    # Out of the way first: one of them may lie where another one has to go.
    aside = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST + len(listeners)) for fd, _ in listeners]
    for number, fd in enumerate(aside, _FIRST):
        os.dup2(fd, number, inheritable=True)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(aside))
    os.environ["LISTEN_FDNAMES"] = ":".join(_OURS if ours else "handed" for _, ours in listeners)
    if _notify_socket:
        os.environ["NOTIFY_SOCKET"] = _notify_socket
    os.execv(words[0], words)  # noqa: S606 - this very program, started anew
