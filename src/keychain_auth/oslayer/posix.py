"""Files and locks by POSIX. Every function here has its twin in ``windows.py``, with the same contract.

Errors are OSError, unless a function says otherwise. A ``Problem`` is what is wrong with a file, and the command that
mends it.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # for type checkers, which look at this file as on POSIX; nobody else imports it

import fcntl
import functools
import os
import pwd
import shlex
import stat
import time

Problem = tuple[str, str]

# O_NONBLOCK: a FIFO in a file's place must not hang who opens it; no effect on regular files.
CAREFUL = os.O_NONBLOCK | os.O_NOCTTY
NOFOLLOW = os.O_NOFOLLOW
PROGRAM_MAGIC = b"\x7fELF"  # how a file begins that the kernel runs directly
PRIVATE_DIR = 0o700
PRIVATE_FILE = 0o600
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

pread = os.pread
preadv = os.preadv


def open_file(path: str, flags: int, mode: int = PRIVATE_FILE) -> int:
    """open(2), close-on-exec, in binary. Others may read, rename and remove the file meanwhile."""
    return os.open(path, flags | os.O_CLOEXEC, mode)


def move(source: str, target: str) -> None:
    """Give the file ``source`` the name ``target``, in place of what has it: all at once."""
    os.rename(source, target)


def sync_dir(folder: str) -> None:
    """Make the names in ``folder`` durable (a rename is not, until its folder is synced)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def try_lock(fd: int) -> bool:
    """Take the file's exclusive lock, which lives as long as the open file; False if somebody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_private_dir(path: str) -> None:
    """Create the folder ``path``, for its owner alone. Raises FileExistsError."""
    os.mkdir(path, PRIVATE_DIR)


def folder_problem(path: str) -> Problem | None:
    """Why the folder ``path`` is not this user's own, None if it is. It is tightened if others may enter it."""
    info = os.stat(path, follow_symlinks=False)
    if info.st_uid != os.geteuid():
        return f"{path} belongs to another user (uid {info.st_uid})", f"ls -ld {shlex.quote(path)}"
    if stat.S_IMODE(info.st_mode) != PRIVATE_DIR:
        os.chmod(path, PRIVATE_DIR)
    return None


def file_problem(path: str, fd: int) -> Problem | None:
    """Why somebody other than this user and root can have written the open file ``fd``, None if nobody can."""
    info = os.fstat(fd)
    if info.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to another user (uid {info.st_uid})", f"chown {os.geteuid()} {shlex.quote(path)}"
    if info.st_mode & _OTHERS_WRITE:
        return f"{path} can be written by other users", f"chmod 600 {shlex.quote(path)}"
    return None


def exposure(path: str, info: os.stat_result) -> tuple[int, int, Problem | None]:
    """Who owns what is at ``path``, its permission bits, and what is wrong with it beyond what these say."""
    return info.st_uid, stat.S_IMODE(info.st_mode), None


def is_same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Were both taken of one file?"""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def tighten(fd: int) -> None:
    """Take the open file away from others, if it is this user's."""
    info = os.fstat(fd)
    if stat.S_IMODE(info.st_mode) != PRIVATE_FILE and info.st_uid == os.geteuid():
        os.fchmod(fd, PRIVATE_FILE)


def set_mode(fd: int, mode: int) -> None:
    """fchmod(2)."""
    os.fchmod(fd, mode)


def look_command(path: str) -> str:
    """The command that shows who may do what with ``path``."""
    return f"ls -l {shlex.quote(path)}"


def aside_command(path: str) -> str:
    """The command that moves ``path`` out of the way."""
    return f"mv {shlex.quote(path)} {shlex.quote(path + '.old')}"


def holders_command(path: str) -> str:
    """The command that says which process has ``path`` open."""
    return f"fuser {shlex.quote(path)}"


@functools.lru_cache(maxsize=64)
def user_name(uid: int) -> str:
    """The account's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def seconds_since_boot() -> float:
    """A clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))  # macOS: the second does too


def user_id() -> int:
    """A number for this user."""
    return os.geteuid()
