"""What binding a Unix socket takes on every system that has them: a folder of one's own, a lock, nothing stale.

Order (a lost race at any point ends in a refusal, never in two daemons or a stolen socket):

1. The folder is ours and nobody else's to write.
2. The lock file beside the socket: held by a daemon for its whole life, released by the kernel however it ends.
3. Under the lock, connect: whoever answers is a daemon that keeps its socket. Nobody does: the socket is stale and
goes.
4. Bind under umask 077, so that the socket never exists with more than mode 0600.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable

from keychain_auth import files
from keychain_auth.errors import DaemonAlreadyRunning, UnsafeFile, quoted

_OWN_FOLDER = "keychain-auth"


def require_length(path: str, most: int) -> None:
    """Raises UnsafeFile if no socket can have this path."""
    if len(os.fsencode(path)) > most:
        raise UnsafeFile(
            f"the socket path is longer than {most} bytes: {path}", hint="choose a shorter one with --socket"
        )


def prepare_folder(folder: str) -> None:
    """Our own folder is made private; one that somebody else chose is only checked, never changed."""
    if os.path.basename(folder) == _OWN_FOLDER or not os.path.exists(folder):
        files.make_private_dir(folder)
    about = os.stat(folder)
    if about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise UnsafeFile(
            f"other users can change the socket's folder {folder}",
            hint=f"choose a folder of your own, or: chmod 700 {quoted(folder)}",
        )


def take_lock(path: str) -> int:
    """The lock of the socket at ``path``: its descriptor. Raises DaemonAlreadyRunning."""
    lock = files.try_lock(path + ".lock")
    if lock is None:
        raise DaemonAlreadyRunning(path, _recorded_pid(path))
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


def remove_stale(path: str, pid_of: Callable[[socket.socket], int]) -> None:
    """Remove a socket that nobody listens on. ``pid_of``: who is behind a connection.

    Raises DaemonAlreadyRunning, UnsafeFile.
    """
    try:
        about = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(about.st_mode):
        raise UnsafeFile(f"{path} exists and is no socket", hint=f"mv {quoted(path)} {quoted(path)}.old")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
        else:
            raise DaemonAlreadyRunning(path, pid_of(probe))


def bind(listener: socket.socket, path: str, backlog: int) -> None:
    """Have ``listener`` listen at ``path``, non-blocking, for this user alone. Closes it if that fails."""
    try:
        listener.setblocking(False)
        mask = os.umask(0o077)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        os.chmod(path, 0o600)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise


def unlink_own(path: str, bound: tuple[int, int]) -> None:
    """Remove the socket at ``path`` if it is the one with this device and inode."""
    with contextlib.suppress(FileNotFoundError):
        about = os.stat(path, follow_symlinks=False)
        if (about.st_dev, about.st_ino) == bound:
            os.unlink(path)


def _recorded_pid(path: str) -> int:
    try:
        return int(files.read_private(path + ".lock", 64) or b"0")
    except (OSError, ValueError, UnsafeFile):
        return 0
