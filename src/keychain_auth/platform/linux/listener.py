"""A Unix socket that is bound once, by one daemon, in the order of ``posix.endpoint``; or one that was handed over.

A socket that was handed over (by systemd, or by the daemon before) is only taken: it is not looked for in the way, and
whoever made it removes it.
"""

from __future__ import annotations

import os
import socket
import struct

from keychain_auth.platform.linux.activation import Handed
from keychain_auth.platform.linux.channel import UnixChannel, refuse_descriptors
from keychain_auth.platform.linux.looks import Host
from keychain_auth.platform.posix import endpoint
from keychain_auth.platform.posix.listener import SocketListener

_BACKLOG = 4096  # the kernel caps it at net.core.somaxconn
_LONGEST_PATH = 107  # sun_path is 108 bytes with its NUL (unix(7))


class UnixListener(SocketListener):
    """See ``Listener``. ``handed``: it is bound already, by systemd or by the daemon before."""

    def __init__(self, path: str, host: Host, handed: Handed | None = None) -> None:
        endpoint.require_length(path, _LONGEST_PATH)
        folder = os.path.dirname(path)
        lock = -1
        if handed is None or not _of_root(folder):  # there it is root's affair who listens, and the lock is the vault's
            endpoint.prepare_folder(folder)
            lock = endpoint.take_lock(path)
        super().__init__(
            path, lock, lambda: handed.socket if handed else _bind(path), ours=handed is None or handed.ours
        )
        self._host = host
        self._late = handed is not None and handed.late
        self._handed = handed is not None
        if handed is not None:  # and what waits in its queue by now has not inherited it
            refuse_descriptors(self._socket)

    def accept(self) -> UnixChannel:
        """The next connection. Raises BlockingIOError when none waits."""
        connection, _ = self._socket.accept()
        if self._handed:
            refuse_descriptors(connection)
        if self._late:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return UnixChannel(connection, self._host)


def _of_root(folder: str) -> bool:
    about = os.stat(folder)
    return about.st_uid == 0 and not about.st_mode & 0o022 and os.geteuid() != 0


def _listening_pid(connected: socket.socket) -> int:
    """Who listens there: SO_PEERCRED of a client's end names who called listen(2)."""
    return int(struct.unpack("=iII", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def bind_for(path: str, mode: int, uid: int, gid: int) -> socket.socket:
    """A listening socket at ``path`` for a daemon that will be another user; to be called by root.

    Raises DaemonAlreadyRunning, UnsafeFile, OSError.
    """
    listener = _bind(path)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return listener


def _bind(path: str) -> socket.socket:
    endpoint.remove_stale(path, _listening_pid)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Before listen: connections inherit it, and so do bytes that arrive before accept.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    refuse_descriptors(listener)
    endpoint.bind(listener, path, _BACKLOG)
    return listener
