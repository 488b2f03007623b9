"""A program's or a script's file, opened so that nobody writes it meanwhile, and its SHA-256.

The handle shares reading only: as long as it is open, Windows lets nobody write or remove the file, and it is not
opened at all while somebody has it open for writing. So what is hashed is one state of the file, which it keeps until
the handle is closed.

The hash is remembered only for what nobody but Windows' own can change: all the times that a file has can be set by who
may write it (SetFileTime, FileBasicInfo), so the times of a file of this user vouch for nothing.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import contextlib
import msvcrt
import os
from collections.abc import Collection

import msgspec
import win32con
import win32file

from keychain_auth.identity.facts import FileKey, ScriptFacts
from keychain_auth.oslayer.windows import as_oserror, user_id
from keychain_auth.platform.base import Digest, FileTooLarge, Pace
from keychain_auth.platform.signed_file import examine, without_rest
from keychain_auth.platform.windows.place import filesystem_of, only_root_writes, writable_by_others

_ACCESS = win32con.GENERIC_READ | win32con.GENERIC_EXECUTE


def open_unwritten(path: str) -> int:
    """A readable descriptor of the file, while nobody writes it. Raises OSError."""
    with as_oserror(path):
        handle = win32file.CreateFile(
            path, _ACCESS, win32con.FILE_SHARE_READ, None, win32con.OPEN_EXISTING, win32con.FILE_ATTRIBUTE_NORMAL, None
        )
    return msvcrt.open_osfhandle(handle.Detach(), os.O_BINARY | os.O_NOINHERIT)


def file_key(about: os.stat_result) -> FileKey:
    """The version of a file: volume and file number, size and times."""
    return FileKey(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


def digest(fd: int, path: str, limit: int, pace: Pace = without_rest, keys: Collection[bytes] = ()) -> Digest:
    """Hash the file ``fd`` of ``open_unwritten``. Raises FileTooLarge, OSError, and what ``pace`` raises."""
    about = os.fstat(fd)
    if about.st_size > limit:
        raise FileTooLarge(f"{about.st_size} bytes; the daemon hashes up to {limit}")
    examined = examine(fd, about.st_size, keys, limit, pace)
    of_root = only_root_writes(path)
    tried = frozenset(keys) if examined.is_signed else None
    return Digest(
        file_key(os.fstat(fd)),
        examined.sha256,
        of_root=of_root,
        keep=of_root,
        signature=examined.signature,
        tried=tried,
    )


class WindowsFile:
    """See ``base.Script``."""

    def __init__(self, path: str) -> None:
        """Open the file at a real path. Raises OSError."""
        self._path = path
        self._fd = open_unwritten(path)
        self.key = file_key(os.fstat(self._fd))
        self.facts = ScriptFacts(
            path=path, sha256="", filesystem=filesystem_of(path), writable_by_others=writable_by_others(path, user_id())
        )

    def hash(self, limit: int, pace: Pace) -> Digest:
        """See ``base.Script.hash``."""
        return digest(self._fd, self._path, limit, pace)

    def hashed(self, sha256: str) -> ScriptFacts:
        """The facts with the hash in them."""
        return msgspec.structs.replace(self.facts, sha256=sha256)

    def close(self) -> None:
        """Close the file. May be called twice."""
        with contextlib.suppress(OSError):
            os.close(self._fd)
