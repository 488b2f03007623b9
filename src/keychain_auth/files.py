"""Files that must neither be lost, nor be half written, nor be somebody else's.

What it promises: ``replace`` leaves the old content or the new one, whole, whatever happens in between
(temporary file in the same folder, fsync, rename, fsync of the folder: rename(2) is atomic, but only a
synced folder makes it durable). ``read_private`` refuses a file that another user could have written.

What it does not promise: protection from processes of the same user, or from root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shlex
import stat
import time
from collections.abc import Iterator

from keychain_auth.errors import UnsafeFile

PRIVATE_FILE = 0o600
PRIVATE_DIR = 0o700
_LOCK_SECONDS = 4.0  # less than the daemon takes to end
_LOCK_POLL_SECONDS = 0.005
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_private_dir(path: str) -> None:
    """Create ``path`` (and its parents) with mode 0700, or check and tighten the one that is there.

    A folder of ours that others may enter is tightened to 0700: that takes away, it never gives.
    Raises UnsafeFile if it is not a folder or belongs to another user.
    """
    os.makedirs(os.path.dirname(path) or ".", mode=PRIVATE_DIR, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, PRIVATE_DIR)
    info = os.stat(path, follow_symlinks=False)
    if not stat.S_ISDIR(info.st_mode):
        raise UnsafeFile(f"{path} is not a folder", hint=_aside(path))
    if info.st_uid != os.geteuid():
        raise UnsafeFile(f"{path} belongs to another user (uid {info.st_uid})", hint=f"ls -ld {shlex.quote(path)}")
    if stat.S_IMODE(info.st_mode) != PRIVATE_DIR:
        os.chmod(path, PRIVATE_DIR)


def read_private(path: str, limit: int = 64 * 1024 * 1024) -> bytes:
    """The content of a file that only this user (or root) can have written.

    Raises FileNotFoundError if there is none, UnsafeFile if it is not a regular file, belongs to
    somebody else, can be written by others, cannot be read, or is longer than ``limit`` bytes.
    """
    fd = open_private(path)
    with os.fdopen(fd, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UnsafeFile(f"{path} is larger than {limit} bytes")
    return content


def open_private(path: str) -> int:
    """A read-only descriptor of the file ``path``, checked as ``read_private`` says."""
    try:
        # O_NONBLOCK: a FIFO put in the file's place must not hang the daemon; no effect on regular files.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsafeFile(f"cannot read {path}: {error.strerror}", hint=f"ls -l {shlex.quote(path)}") from None
    try:
        check_private(path, os.fstat(fd))
    except UnsafeFile:
        os.close(fd)
        raise
    return fd


def check_private(path: str, info: os.stat_result) -> None:
    """Raise UnsafeFile unless ``info`` is a regular file that only this user or root can write."""
    if not stat.S_ISREG(info.st_mode):
        kind = "a folder" if stat.S_ISDIR(info.st_mode) else "no regular file"
        raise UnsafeFile(f"{path} is {kind}", hint=_aside(path))
    if info.st_uid not in (os.geteuid(), 0):
        raise UnsafeFile(
            f"{path} belongs to another user (uid {info.st_uid})", hint=f"chown {os.geteuid()} {shlex.quote(path)}"
        )
    if info.st_mode & _OTHERS_WRITE:
        raise UnsafeFile(f"{path} can be written by other users", hint=f"chmod 600 {shlex.quote(path)}")


def _aside(path: str) -> str:
    return f"mv {shlex.quote(path)} {shlex.quote(path + '.old')}"


def replace(path: str, content: bytes, mode: int = PRIVATE_FILE) -> None:
    """Write ``content`` as the whole file ``path``, atomically and durably.

    Raises OSError; then the old file is untouched.
    """
    with replacing(path) as fd:
        write_all(fd, content)
        if mode != PRIVATE_FILE:
            os.fchmod(fd, mode)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[int]:
    """A descriptor (mode 0600, to read and write) of what becomes the file ``path``, once all of it is written.

    If the block raises, the old file is untouched.
    """
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{secrets.token_hex(6)}")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        try:
            yield fd
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_dir(folder)


def write_all(fd: int, content: bytes) -> None:
    """Write every byte of ``content`` to ``fd``; a short write (disk full) is continued or raises."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def sync_dir(folder: str) -> None:
    """Make the names in ``folder`` durable (a rename is not, until its folder is synced)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the exclusive lock of the file ``path`` + ``.lock``; waits a few seconds for whoever holds it.

    flock(2) goes with the open file, so a killed holder leaves nothing behind. A holder that was stopped could hold it
    for ever: raises UnsafeFile then.
    """
    fd = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UnsafeFile(
                        f"another command holds {path}.lock", hint=f"fuser {shlex.quote(path + '.lock')}"
                    ) from None
                time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


def try_lock(path: str) -> int | None:
    """Take the exclusive lock ``path`` without waiting: its descriptor, or None if somebody has it.

    The lock lives as long as the descriptor.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
