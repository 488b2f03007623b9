"""Files that must neither be lost, nor be half written, nor be somebody else's.

What it promises: ``replace`` leaves the old content or the new one, whole, whatever happens in between
(temporary file in the same folder, fsync, rename, fsync of the folder: rename(2) is atomic, but only a
synced folder makes it durable). ``read_private`` refuses a file that another user could have written.

What it does not promise: protection from processes of the same user, or from root.

How a system says whose a file is, locks it and moves it is in ``oslayer``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator

from keychain_auth.errors import UnsafeFile
from keychain_auth.oslayer import system

PRIVATE_FILE = system.PRIVATE_FILE
PRIVATE_DIR = system.PRIVATE_DIR
sync_dir = system.sync_dir
_LOCK_SECONDS = 4.0  # less than the daemon takes to end
_LOCK_POLL_SECONDS = 0.005


def make_private_dir(path: str) -> bool:
    """Create ``path`` (and its parents) for this user alone (mode 0700), or check and tighten the one that is there.

    A folder of ours that others may enter is tightened: that takes away, it never gives. True if others could write
    into it until now: whoever did may have left something.
    Raises UnsafeFile if it is not a folder or belongs to another user.
    """
    os.makedirs(os.path.dirname(path) or ".", mode=PRIVATE_DIR, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        system.make_private_dir(path)
    about = os.stat(path, follow_symlinks=False)
    if not stat.S_ISDIR(about.st_mode):
        raise UnsafeFile(f"{path} is not a folder", hint=system.aside_command(path))
    _, mode, _ = system.exposure(path, about)
    if (problem := system.folder_problem(path)) is not None:
        raise UnsafeFile(problem[0], hint=problem[1])
    return bool(mode & (stat.S_IWGRP | stat.S_IWOTH))


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
    fd = open_unchecked(path)
    try:
        check_private(path, fd)
    except UnsafeFile:
        os.close(fd)
        raise
    return fd


def open_unchecked(path: str) -> int:
    """A read-only descriptor of the file ``path``, for ``check_private``. Raises FileNotFoundError, UnsafeFile."""
    try:
        return system.open_file(path, os.O_RDONLY | system.CAREFUL)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsafeFile(f"cannot read {path}: {error.strerror}", hint=system.look_command(path)) from None


def check_private(path: str, fd: int) -> None:
    """Raise UnsafeFile unless ``fd`` is a regular file that only this user or root can write."""
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise UnsafeFile(f"{path} is {kind}", hint=system.aside_command(path))
    if (problem := system.file_problem(path, fd)) is not None:
        raise UnsafeFile(problem[0], hint=problem[1])


def replace(path: str, content: bytes, mode: int = PRIVATE_FILE) -> None:
    """Write ``content`` as the whole file ``path``, atomically and durably.

    Raises OSError; then the old file is untouched.
    """
    with replacing(path) as fd:
        write_all(fd, content)
        if mode != PRIVATE_FILE:
            system.set_mode(fd, mode)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[int]:
    """A descriptor (mode 0600, to read and write) of what becomes the file ``path``, once all of it is written.

    If the block raises, the old file is untouched.
    """
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{secrets.token_hex(6)}")
    try:
        fd = system.open_file(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except OSError as error:
        error.filename = path  # the name that somebody knows
        raise
    try:
        try:
            yield fd
            os.fsync(fd)
        finally:
            os.close(fd)
        system.move(temporary, path)
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


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the exclusive lock of the file ``path`` + ``.lock``; waits a few seconds for whoever holds it.

    The lock goes with the open file, so a killed holder leaves nothing behind. A holder that was stopped could hold it
    for ever: raises UnsafeFile then.
    """
    fd = system.open_file(path + ".lock", os.O_RDWR | os.O_CREAT)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not system.try_lock(fd):
            if time.monotonic() > deadline:
                raise UnsafeFile(f"another command holds {path}.lock", hint=system.holders_command(path + ".lock"))
            time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


def try_lock(path: str) -> int | None:
    """Take the exclusive lock ``path`` without waiting: its descriptor, or None if somebody has it.

    The lock lives as long as the descriptor.
    """
    fd = system.open_file(path, os.O_RDWR | os.O_CREAT)
    if not system.try_lock(fd):
        os.close(fd)
        return None
    return fd
