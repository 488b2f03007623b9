"""Files and locks by Windows: the twins of ``posix.py``.

* A file is opened so that others may read, rename and remove it meanwhile (FILE_SHARE_DELETE), as on POSIX: the C
  library's open would forbid the rotation of a log that is being written.
* A rename waits a little for whoever has the target open without allowing that (a virus scanner).
* Privacy is a list of who may do what (``security.py``), not mode bits; what is made in a private folder is private.
* Locks are one byte far behind any content: LockFile forbids others to read what is locked.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # see security.py

import contextlib
import msvcrt
import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pywintypes
import win32con
import win32file

from keychain_auth.oslayer import security

Problem = tuple[str, str]

CAREFUL = 0  # nothing that can be opened here waits for a writer; a pipe's name is no file's
NOFOLLOW = 1 << 28  # an own flag, beyond those of the C library
PROGRAM_MAGIC = b"MZ"
PRIVATE_DIR = 0o700
PRIVATE_FILE = 0o600
_SHARE = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_WRITE | win32con.FILE_SHARE_DELETE
_LOCKED_BYTE = 0x7FFF_FFF0
_MOVE_SECONDS = 1.0
_MOVE_POLL_SECONDS = 0.01
_IN_USE = (5, 32)  # ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION


@contextlib.contextmanager
def as_oserror(path: str | None = None) -> Iterator[None]:
    """What pywin32 raises as the OSError that Python's own functions would raise."""
    try:
        yield
    except pywintypes.error as error:
        raise OSError(0, error.strerror, path, error.winerror) from None


def open_file(path: str, flags: int, mode: int = PRIVATE_FILE) -> int:
    """See ``posix.open_file``. ``mode`` means nothing here."""
    access = {os.O_RDONLY: win32con.GENERIC_READ, os.O_WRONLY: win32con.GENERIC_WRITE}.get(
        flags & (os.O_WRONLY | os.O_RDWR), win32con.GENERIC_READ | win32con.GENERIC_WRITE
    )
    attributes = win32con.FILE_ATTRIBUTE_NORMAL
    if flags & NOFOLLOW:
        attributes |= win32file.FILE_FLAG_OPEN_REPARSE_POINT
    with as_oserror(path):
        handle = win32file.CreateFile(path, access, _SHARE, None, _disposition(flags), attributes, None)
    if flags & NOFOLLOW and win32file.GetFileInformationByHandle(handle)[0] & stat.FILE_ATTRIBUTE_REPARSE_POINT:
        handle.Close()
        raise OSError(0, "it is a link", path, 1920)  # ERROR_CANT_ACCESS_FILE
    kept = flags & (os.O_APPEND | os.O_WRONLY | os.O_RDWR)
    return msvcrt.open_osfhandle(handle.Detach(), kept | os.O_BINARY | os.O_NOINHERIT)


def _disposition(flags: int) -> int:
    if flags & os.O_CREAT:
        if flags & os.O_EXCL:
            return int(win32con.CREATE_NEW)
        return int(win32con.CREATE_ALWAYS if flags & os.O_TRUNC else win32con.OPEN_ALWAYS)
    return int(win32con.TRUNCATE_EXISTING if flags & os.O_TRUNC else win32con.OPEN_EXISTING)


def pread(fd: int, size: int, offset: int) -> bytes:
    """See os.pread; but not for two threads with one descriptor at a time."""
    before = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)
    finally:
        os.lseek(fd, before, os.SEEK_SET)


def preadv(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
    """See os.preadv; with ``pread``'s restriction."""
    done = 0
    for buffer in buffers:
        data = pread(fd, len(buffer), offset + done)
        buffer[: len(data)] = data
        done += len(data)
        if len(data) < len(buffer):
            break
    return done


def move(source: str, target: str) -> None:
    """See ``posix.move``. It is on the disk when this returns."""
    until = time.monotonic() + _MOVE_SECONDS
    while True:
        try:
            with as_oserror(target):
                flags = win32file.MOVEFILE_REPLACE_EXISTING | win32file.MOVEFILE_WRITE_THROUGH
                win32file.MoveFileEx(source, target, flags)
            return
        except PermissionError as error:
            if error.winerror not in _IN_USE or os.path.isdir(target) or time.monotonic() > until:
                raise
            time.sleep(_MOVE_POLL_SECONDS)


def sync_dir(folder: str) -> None:
    """Nothing: a move writes through, and NTFS keeps its names in a journal."""


def try_lock(fd: int) -> bool:
    """See ``posix.try_lock``."""
    before = os.lseek(fd, 0, os.SEEK_CUR)
    os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    finally:
        os.lseek(fd, before, os.SEEK_SET)
    return True


def make_private_dir(path: str) -> None:
    """See ``posix.make_private_dir``."""
    with as_oserror(path):
        win32file.CreateDirectory(path, security.private_folder())


def folder_problem(path: str) -> Problem | None:
    """See ``posix.folder_problem``."""
    descriptor = security.of_file(path)
    if (other := _foreign_owner(descriptor)) is not None:
        return f"{path} belongs to another user ({other})", look_command(path)
    if security.others_who_enter(descriptor):
        security.close_to_others(path)
        if others := security.others_who_write(security.of_file(path)):
            return f"{path} can be written by {_names(others)}", _mend_command(path)
    return None


def file_problem(path: str, fd: int) -> Problem | None:
    """See ``posix.file_problem``."""
    descriptor = security.of_handle(msvcrt.get_osfhandle(fd))
    if (other := _foreign_owner(descriptor)) is not None:
        return f"{path} belongs to another user ({other})", f'icacls "{path}" /setowner "%USERNAME%"'
    if others := security.others_who_write(descriptor):
        return f"{path} can be written by other users ({_names(others)})", _mend_command(path)
    return None


def exposure(path: str, info: os.stat_result) -> tuple[int, int, Problem | None]:
    """See ``posix.exposure``. There are no bits that say anything: the list does."""
    problem: Problem | None = None
    descriptor = security.of_file(path)
    if (other := _foreign_owner(descriptor)) is not None:
        problem = f"{path} belongs to another user ({other})", f'icacls "{path}" /setowner "%USERNAME%"'
    elif others := security.others_who_write(descriptor):
        problem = f"other users can write {path} ({_names(others)})", _mend_command(path)
    elif others := security.others_who_enter(descriptor):
        problem = f"other users can read {path} ({_names(others)})", _mend_command(path)
    return user_id(), PRIVATE_DIR if stat.S_ISDIR(info.st_mode) else PRIVATE_FILE, problem


def is_same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """See ``posix.is_same_file``. Wine forgets the volume (0) of an open file that was renamed."""
    same_volume = one.st_dev == other.st_dev or 0 in (one.st_dev, other.st_dev)
    return same_volume and one.st_ino == other.st_ino


def tighten(fd: int) -> None:
    """Nothing: a file has the list of the folder that it was made in."""


def set_mode(fd: int, mode: int) -> None:
    """Nothing: there are no mode bits."""


def look_command(path: str) -> str:
    """See ``posix.look_command``."""
    return f'icacls "{path}"'


def aside_command(path: str) -> str:
    """See ``posix.aside_command``."""
    return f'move "{path}" "{path}.old"'


def holders_command(path: str) -> str:
    """See ``posix.holders_command``. Windows has none of its own; the Resource Monitor finds open handles by name."""
    return "resmon"


def user_name(uid: int) -> str:
    """See ``posix.user_name``. Only this user's number is known."""
    return security.name_of(security.sid_text(security.own_sid())) if uid == user_id() else str(uid)


def seconds_since_boot() -> float:
    """See ``posix.seconds_since_boot``. Both clocks that Python takes this from go on during sleep."""
    return time.monotonic()


def user_id() -> int:
    """The last number of this user's SID: what tells accounts of one machine or domain apart."""
    return rid(security.own_sid())


def rid(sid: Any) -> int:
    """The last number of a SID (its relative identifier)."""
    return int(sid.GetSubAuthority(sid.GetSubAuthorityCount() - 1))


def _foreign_owner(descriptor: Any) -> str | None:
    owner = security.owner(descriptor)
    if owner in security.ROOT or owner == security.sid_text(security.own_sid()):
        return None
    return security.name_of(owner) if owner else "nobody"


def _names(sids: set[str]) -> str:
    return ", ".join(sorted("everybody" if sid == "*" else security.name_of(sid) for sid in sids))


def _mend_command(path: str) -> str:
    return f'icacls "{path}" /inheritance:r /grant:r "%USERNAME%:F"'
