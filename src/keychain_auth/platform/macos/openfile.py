"""A file by its path: the executable of a process or a script, opened, looked at, and hashed.

macOS has no leases, so nothing says that nobody writes while a file is read: a hash is remembered only for a file that
nobody but root can change (System Integrity Protection keeps even root from most of them).

Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection

from keychain_auth.identity.facts import FileKey, ScriptFacts
from keychain_auth.platform.base import Digest, FileTooLarge, Pace
from keychain_auth.platform.macos import libproc
from keychain_auth.platform.posix.openfile import OpenedFile
from keychain_auth.platform.posix.ownership import only_root_writes, writable_by_others
from keychain_auth.platform.signed_file import examine

_SETTLED_NS = 2_000_000_000
_DEVICE = 0xFFFFFFFF  # dev_t is a signed number in stat(2), an unsigned one in sys/proc_info.h
# O_NONBLOCK: a FIFO of that name must not hold the thread.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class MacosFile(OpenedFile):
    """See ``base.Script``."""

    __slots__ = ("_path",)

    def __init__(self, fd: int, path: str, key: FileKey, facts: ScriptFacts) -> None:
        super().__init__(fd, key, facts)
        self._path = path

    def hash(self, limit: int, pace: Pace) -> Digest:
        """See ``base.Script.hash``."""
        return digest(self._fd, self._path, limit, pace)


def open_file(path: str, uid: int) -> MacosFile | None:
    """The regular file at ``path`` by its real name; None if there is none."""
    try:
        real = os.path.realpath(path, strict=True)
        fd = os.open(real, _FLAGS)
    except (OSError, ValueError):
        return None
    file = None
    try:
        about = os.fstat(fd)
        if stat.S_ISREG(about.st_mode):
            kind = libproc.filesystem(real).kind
            facts = ScriptFacts(path=real, sha256="", filesystem=kind, writable_by_others=writable_by_others(real, uid))
            file = MacosFile(fd, real, key_of(about), facts)
    except OSError:
        return None
    finally:
        if file is None:
            os.close(fd)
    return file


def digest(fd: int, path: str, limit: int, pace: Pace, keys: Collection[bytes] = ()) -> Digest:
    """Hash the file behind ``fd``, which was opened at ``path``. Raises FileTooLarge, OSError, what ``pace`` raises."""
    before = os.fstat(fd)
    if before.st_size > limit:
        raise FileTooLarge(f"{before.st_size} bytes; the daemon hashes up to {limit}")
    examined = examine(fd, before.st_size, keys, limit, pace)
    after = os.fstat(fd)
    of_root = only_root_writes(path) and not libproc.filesystem(path).nosuid
    settled = time.time_ns() - after.st_ctime_ns > _SETTLED_NS
    return Digest(
        key_of(after),
        examined.sha256,
        of_root=of_root,
        keep=of_root and settled and key_of(before) == key_of(after),
        signature=examined.signature,
        tried=frozenset(keys) if examined.is_signed else None,
    )


def key_of(about: os.stat_result) -> FileKey:
    """The version of a file, with its device as the kernel's own structures have it."""
    return FileKey(about.st_dev & _DEVICE, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
