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

import contextlib
import os
import socket
import stat
import struct

from keychain_auth import files
from keychain_auth.errors import DaemonAlreadyRunning, UnsafeFile
from keychain_auth.platform.linux.activation import Handed
from keychain_auth.platform.linux.channel import UnixChannel
from keychain_auth.platform.linux.looks import Host

_BACKLOG = 4096  # the kernel caps it at net.core.somaxconn
_LONGEST_PATH = 107  # sun_path is 108 bytes with its NUL (unix(7))
_OWN_FOLDER = "keychain-auth"


class UnixListener:
    """See ``Listener``."""

    def __init__(self, path: str, host: Host, handed: Handed | None = None) -> None:
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise UnsafeFile(
                f"the socket path is longer than {_LONGEST_PATH} bytes: {path}",
                hint="choose a shorter one with --socket",
            )
        self.path = path
        self._host = host
        folder = os.path.dirname(path)
        self._lock = -1
        if handed is None or not _of_root(folder):  # there it is root's affair who listens, and the lock is the vault's
            _prepare_folder(folder)
            self._lock = _take_lock(path)
        try:
            if handed is None:
                _remove_stale(path)
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
            self._unlink()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            about = os.stat(self.path, follow_symlinks=False)
            if (about.st_dev, about.st_ino) == self._bound:
                os.unlink(self.path)


def _of_root(folder: str) -> bool:
    about = os.stat(folder)
    return about.st_uid == 0 and not about.st_mode & 0o022 and os.geteuid() != 0


def _prepare_folder(folder: str) -> None:
    """Our own folder is made private; one that somebody else chose is only checked, never changed."""
    if os.path.basename(folder) == _OWN_FOLDER or not os.path.exists(folder):
        files.make_private_dir(folder)
    about = os.stat(folder)
    if about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise UnsafeFile(
            f"other users can change the socket's folder {folder}",
            hint=f"choose a folder of your own, or: chmod 700 {folder}",
        )


def _take_lock(path: str) -> int:
    lock = files.try_lock(path + ".lock")
    if lock is None:
        raise DaemonAlreadyRunning(path, _recorded_pid(path))
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


def _remove_stale(path: str) -> None:
    try:
        about = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(about.st_mode):
        raise UnsafeFile(f"{path} exists and is no socket", hint=f"mv {path} {path}.old")
    pid = _listening_pid(path)
    if pid:
        raise DaemonAlreadyRunning(path, pid)
    os.unlink(path)


def _listening_pid(path: str) -> int:
    """The pid of whoever listens there, 0 if nobody does. SO_PEERCRED of a client's end names who called listen(2)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(path)
        except OSError:
            return 0
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("=iII", raw)[0])


def _recorded_pid(path: str) -> int:
    try:
        return int(files.read_private(path + ".lock", 64) or b"0")
    except (OSError, ValueError, UnsafeFile):
        return 0


def bind_for(path: str, mode: int, uid: int, gid: int) -> socket.socket:
    """A listening socket at ``path`` for a daemon that will be another user; to be called by root.

    Raises DaemonAlreadyRunning, UnsafeFile, OSError.
    """
    _remove_stale(path)
    listener = _bind(path)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return listener


def _bind(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before listen: connections inherit it, and so do bytes that arrive before accept.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.setblocking(False)
        mask = os.umask(0o077)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
