"""The files of one audit log: ``audit.log``, then ``audit.log.1`` (newer) to ``audit.log.N`` (older).

Contract:
* Rotation is a list of renames, decided by ``plan`` from the names alone. Each step leaves a state that the
  readers here take as it is: a missing number is skipped, a missing ``audit.log`` means that a rotation was
  cut short. A file is deleted only after the new ``audit.log`` is in place.
* The new file appears under its name with its first line already in it.
* Readers find every file that is there when they look, even while a rotation runs.

What it does not promise: anything about the content; that is what ``verify`` is for.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator

import msgspec

from keychain_auth import files
from keychain_auth.errors import UnsafeFile
from keychain_auth.oslayer import system

MAX_LINE = 64 * 1024 * 1024
"""Longest line that is read, in bytes: beyond it the file is no audit log (it could fill the memory)."""

_BLOCK = 64 * 1024
_NUMBER = re.compile("[1-9][0-9]{0,3}")
_SNAPSHOT_TRIES = 25
_SNAPSHOT_PAUSE = 0.002  # seconds; a rotation takes a fraction of it


def head_path(path: str) -> str:
    """Where the head of the log ``path`` lies: ``audit.head`` beside ``audit.log``."""
    return path.removesuffix(".log") + ".head"


def lock_path(path: str) -> str:
    """The lock that the one writer of the log ``path`` holds."""
    return path + ".lock"


def _fresh_path(path: str) -> str:
    return path + ".new"


def numbered(path: str, number: int) -> str:
    """The name of rotated file ``number``; 0 is ``path`` itself."""
    return f"{path}.{number}" if number else path


def numbers(path: str) -> list[int]:
    """The numbers of the rotated files that exist, in ascending order (newest first).

    At most four digits: ``audit.log.20260521`` is somebody's copy and none of ours.
    """
    prefix = os.path.basename(path) + "."
    found = []
    for name in os.listdir(os.path.dirname(path) or "."):
        number = name.removeprefix(prefix)
        if name.startswith(prefix) and _NUMBER.fullmatch(number):
            found.append(int(number))
    return sorted(found)


# --- rotation -----------------------------------------------------------------------------------


class Plan(msgspec.Struct, frozen=True, gc=False):
    """How to make room for a new ``audit.log``: renames from number to number, in this order, and what
    goes afterwards. ``oldest_kept`` is today's number of the file that will then be the oldest one,
    None when the new file will be alone."""

    renames: tuple[tuple[int, int], ...]
    drops: tuple[int, ...]
    oldest_kept: int | None


def plan(existing: list[int], keep: int, *, current_exists: bool) -> Plan:
    """Shift the files up to the first free number, so that ``audit.log`` becomes number 1.

    Stopping at the first gap means that a rotation cut short is finished by the next one, and that
    no file is pushed out earlier than it must be. ``keep`` is how many rotated files stay.
    """
    if not current_exists:
        moved: dict[int, int] = {}
    else:
        taken = set(existing)
        free = next(n for n in range(1, len(taken) + 2) if n not in taken)
        moved = {n: n + 1 for n in range(free - 1, -1, -1)}
    after = {moved.get(n, n): n for n in ([0, *existing] if current_exists else existing)}
    kept = [n for n in after if n <= keep]
    return Plan(
        renames=tuple(moved.items()),
        drops=tuple(sorted((n for n in after if n > keep), reverse=True)),
        oldest_kept=after[max(kept)] if kept else None,
    )


def create(path: str, first_line: bytes) -> int:
    """A new file with its first line, not yet under its name; a descriptor open for appending.

    Raises OSError; then nothing is left behind.
    """
    fresh = _fresh_path(path)
    discard_unfinished(path)
    fd = system.open_file(fresh, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
    try:
        files.write_all(fd, first_line)
    except OSError:
        os.close(fd)
        discard_unfinished(path)
        raise
    return fd


def place(path: str, renames: tuple[tuple[int, int], ...]) -> None:
    """Move the old files along ``renames`` and give the created one its name. Raises OSError."""
    for source, target in renames:
        system.move(numbered(path, source), numbered(path, target))
    system.move(_fresh_path(path), path)


def set_aside(path: str, number: int = 0) -> None:
    """Give what is no regular file (a folder that somebody put there) another name: it is not ours to remove, and
    rotation could neither read nor drop it. Raises OSError."""
    name = numbered(path, number)
    try:
        if stat.S_ISREG(os.stat(name, follow_symlinks=False).st_mode):
            return
    except FileNotFoundError:
        return
    os.rename(name, f"{path}.no-log-{time.time_ns()}")


def discard_unfinished(path: str) -> None:
    """Remove a new file that never got its name (a crash in the middle of a rotation)."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_fresh_path(path))


def drop(path: str, doomed: tuple[int, ...]) -> None:
    """Delete the rotated files ``doomed``. Raises OSError."""
    for number in doomed:
        set_aside(path, number)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(numbered(path, number))


# --- reading ------------------------------------------------------------------------------------


def open_for_append(path: str) -> int | None:
    """A descriptor of the existing log, open for appending; None if there is none.

    A file of ours that others may read is tightened to 0600. Raises UnsafeFile if others can write it,
    if it is a symbolic link or no regular file.
    """
    try:
        fd = system.open_file(path, os.O_RDWR | os.O_APPEND | system.NOFOLLOW | system.CAREFUL)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnsafeFile(f"cannot open {path}: {error.strerror}", hint=system.aside_command(path)) from None
    try:
        files.check_private(path, fd)
        system.tighten(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_all(path: str, *, tries: int = _SNAPSHOT_TRIES) -> list[tuple[str, int]]:
    """(name, read-only descriptor) of every file of the log, newest first; the caller closes them.

    Files only ever move to greater numbers, so looking from 0 upwards can meet a file twice but miss
    one only between two renames. Then ``audit.log`` or a number below another one is absent for
    a moment: look again, and take it as it is only when it stays so. The writer itself needs only one
    of the ``tries``.
    Raises UnsafeFile for what cannot be read or is no regular file.
    """
    opened, steady = _open_once(path)
    for _ in range(tries - 1):
        if steady:
            break
        for _, fd in opened:
            os.close(fd)
        time.sleep(_SNAPSHOT_PAUSE)
        opened, steady = _open_once(path)
    return opened


def _open_once(path: str) -> tuple[list[tuple[str, int]], bool]:
    wanted = [0, *numbers(path)]
    steady = wanted == list(range(len(wanted)))
    opened: list[tuple[str, int]] = []
    seen: set[tuple[int, int]] = set()
    try:
        for number in wanted:
            name = numbered(path, number)
            try:
                fd = open_regular(name)
            except FileNotFoundError:
                steady = False
                continue
            info = os.fstat(fd)
            if (info.st_dev, info.st_ino) in seen:
                os.close(fd)
                steady = False
            else:
                seen.add((info.st_dev, info.st_ino))
                opened.append((name, fd))
        steady = steady and wanted[1:] == numbers(path)
    except BaseException:
        for _, fd in opened:
            os.close(fd)
        raise
    return opened, steady


def first_line(fd: int) -> bytes:
    """The first line of a file with its newline, empty if there is none (or none of a sane length)."""
    start = system.pread(fd, _BLOCK, 0)
    return start[: start.find(b"\n") + 1]


def open_regular(name: str) -> int:
    """A read-only descriptor. Raises FileNotFoundError, UnsafeFile if it is no regular file."""
    try:
        fd = system.open_file(name, os.O_RDONLY | system.NOFOLLOW | system.CAREFUL)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsafeFile(f"cannot read {name}: {error.strerror}", hint=system.look_command(name)) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UnsafeFile(f"{name} is no regular file", hint=system.aside_command(name))
    return fd


def lines(fd: int) -> Iterator[bytes]:
    """The lines of a file with their newlines, up to the size it has now, in constant memory.

    The last one may lack its newline. A line beyond ``MAX_LINE`` comes in pieces, the first of them without
    newline. The descriptor stays open.
    """
    size = os.fstat(fd).st_size
    with os.fdopen(os.dup(fd), "rb", buffering=_BLOCK * 4) as stream:
        stream.seek(0)
        done = 0
        while done < size and (line := stream.readline(MAX_LINE)):
            done += len(line)
            yield line


def lines_backwards(fd: int) -> Iterator[bytes]:
    """The lines of a file from the last to the first, with their newlines; only the very last may lack it.

    Ends early at a line beyond ``MAX_LINE``, with the end of that line.
    """
    position = os.fstat(fd).st_size
    pieces: list[bytes] = []  # the line being put together, its end first
    while position and len(pieces) * _BLOCK <= MAX_LINE:
        length = min(_BLOCK, position)
        position -= length
        block = system.pread(fd, length, position)
        if not pieces and block.endswith(b"\n"):
            pieces.append(b"\n")
            block = block[:-1]
        first, *rest = block.split(b"\n")
        for piece in reversed(rest):
            yield piece + b"".join(reversed(pieces))
            pieces = [b"\n"]
        pieces.append(first)
    if pieces:
        yield b"".join(reversed(pieces))


def cut_unfinished_line(fd: int) -> int:
    """Cut off what stands behind the last newline (a crash in the middle of a write): bytes removed."""
    size = os.fstat(fd).st_size
    keep = size
    while keep:
        start = max(0, keep - _BLOCK)
        newline = system.pread(fd, keep - start, start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    if keep != size:
        os.ftruncate(fd, keep)
    return size - keep
