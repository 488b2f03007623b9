"""A Unix socket that is bound once, by one daemon, in a folder that nobody else can write.

Order (a lost race at any point ends in a refusal, never in two daemons or a stolen socket):

1. The folder is ours and nobody else's to write.
2. The lock file beside the socket: held by a daemon for its whole life, released by the kernel however it ends.
3. Under the lock, connect: whoever answers is a daemon that keeps its socket. Nobody does: the socket is stale and
goes.
4. Bind under umask 077, so that the socket never exists with more than mode 0600.

At the end only the socket that this object bound (device and inode) is removed. A socket that was handed over (by
systemd, or by the daemon before) is only taken: it is not looked for in the way, and whoever made it removes it.
"""

from __future__ import annotations

import os
import socket
import struct

from keychain_auth.platform import endpoint
from keychain_auth.platform.linux.activation import Handed
from keychain_auth.platform.linux.channel import UnixChannel
from keychain_auth.platform.linux.looks import Host

_BACKLOG = 4096  # the kernel caps it at net.core.somaxconn
_LONGEST_PATH = 107  # sun_path is 108 bytes with its NUL (unix(7))


class UnixListener:
    """See ``Listener``."""

    def __init__(self, path: str, host: Host, handed: Handed | None = None) -> None:
        endpoint.require_length(path, _LONGEST_PATH)
        self.path = path
        self._host = host
        folder = os.path.dirname(path)
        self._lock = -1
        if handed is None or not _of_root(folder):  # there it is root's affair who listens, and the lock is the vault's
            endpoint.prepare_folder(folder)
            self._lock = endpoint.take_lock(path)
        try:
            if handed is None:
                endpoint.remove_stale(path, _listening_pid)
            self._socket = handed.socket if handed else _bind(path)
            about = os.stat(path, follow_symlinks=False)
        except BaseException:
            if self._lock >= 0:
                os.close(self._lock)
            raise
        self._bound = (about.st_dev, about.st_ino)
        self._remove = handed is None or handed.ours
        self._late = handed is not None and handed.late

    def fileno(self) -> int:
        """The listening descriptor."""
        return self._socket.fileno()

    def accept(self) -> UnixChannel:
        """The next connection. Raises BlockingIOError when none waits."""
        connection, _ = self._socket.accept()
        if self._late:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return UnixChannel(connection, self._host)

    def share(self) -> tuple[int, bool]:
        """A descriptor of the listening socket for the daemon that comes next, and whether that has to remove it.

        From now on ``close`` leaves the socket where it is: it listens for as long as somebody has the descriptor.
        """
        ours, self._remove = self._remove, False
        return os.dup(self._socket.fileno()), ours

    def close(self) -> None:
        """Stop listening; remove the socket if it is still ours; let the lock go."""
        self._socket.close()
        if self._remove:
            endpoint.unlink_own(self.path, self._bound)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


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
    endpoint.remove_stale(path, _listening_pid)
    listener = _bind(path)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return listener


def _bind(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Before listen: connections inherit it, and so do bytes that arrive before accept.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    endpoint.bind(listener, path, _BACKLOG)
    return listener
