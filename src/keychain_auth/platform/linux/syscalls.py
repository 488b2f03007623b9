"""The system calls that Python's os module does not offer, each as one typed function.

Only what the daemon needs, bound once. A failure raises OSError with the call's errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
# "Don't synchronize the attributes": a network or FUSE server is never asked (statx(2)).
_AT_STATX_DONT_SYNC = 0x4000
_STATX_WANTED = 0x7FF | 0x1000  # basic stats and, since Linux 5.8, the mount id
_StatxBuffer = ctypes.c_char * 256
# struct statx of include/uapi/linux/stat.h: uid at byte 20, mode 28, inode 32, size 40, ctime 96, mtime 112,
# device major and minor 136, mount id 144.
_FIELDS = struct.Struct("=20xI4xH2xQQ48xqI4xqI4x8xIIQ")

_NR_OPENAT2 = 437  # the same number on every architecture that has it (Linux 5.6)
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_CACHED = 0x20  # Linux 5.12: answer from the dentry cache or say EAGAIN, never wait

_CACHE_ONLY_ERRORS = (errno.EAGAIN, errno.ENOSYS, errno.EINVAL)

_PR_SET_DUMPABLE = 4

_statx = _libc.statx
_statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


class Statx(NamedTuple):
    """What identity rests on. Times in nanoseconds since the epoch, ``device`` as in ``st_dev``."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    uid: int
    mode: int
    mount_id: int


def statx_descriptor(fd: int) -> Statx:
    """The attributes of the opened file ``fd`` (O_PATH is enough), from the kernel's own cache."""
    return _statx_of(fd, b"", _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC)


def statx_link(folder: int, name: bytes) -> Statx:
    """The same of what the magic link ``name`` in a /proc folder leads to: no path is looked up, nobody is asked."""
    return _statx_of(folder, name, _AT_STATX_DONT_SYNC)


def _statx_of(folder: int, name: bytes, flags: int) -> Statx:
    buffer = _StatxBuffer()
    if _statx(folder, name, flags, _STATX_WANTED, buffer) != 0:
        raise _errno("statx")
    uid, mode, inode, size, c_sec, c_nsec, m_sec, m_nsec, major, minor, mount_id = _FIELDS.unpack_from(buffer)
    return Statx(
        os.makedev(major, minor),
        inode,
        size,
        m_sec * 1_000_000_000 + m_nsec,
        c_sec * 1_000_000_000 + c_nsec,
        uid,
        mode,
        mount_id,
    )


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_CACHED = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_CACHED | _RESOLVE_NO_MAGICLINKS)
_CACHED_WORDS = ctypes.byref(_CACHED), ctypes.c_size_t(ctypes.sizeof(_CACHED))


def open_cached(path: bytes) -> int:
    """An O_PATH descriptor of ``path`` from the dentry cache alone.

    Raises BlockingIOError (EAGAIN) where a disk or a filesystem's server would have to be asked, OSError with ENOSYS
    or EINVAL on kernels older than 5.12.
    """
    fd = _syscall(_NR_OPENAT2, _AT_FDCWD, path, *_CACHED_WORDS)
    if fd < 0:
        raise _errno("openat2")
    return int(fd)


def open_path(path: bytes, *, cached: bool) -> int:
    """An O_PATH descriptor of ``path``. ``cached``: only if neither a disk nor a filesystem's server has to be asked.

    Kernels without RESOLVE_CACHED may wait all the same. Raises BlockingIOError when it would have to wait, OSError.
    """
    try:
        return open_cached(path)
    except OSError as error:
        if error.errno not in _CACHE_ONLY_ERRORS or (cached and error.errno == errno.EAGAIN):
            raise
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def open_regular(path: bytes, *, folder: int | None = None, follow: bool = True) -> int:
    """A readable descriptor of the regular file ``path``, below the opened ``folder`` if it is relative.

    What is no regular file is never opened, not even for a moment: to open a device can be an act (a watchdog starts, a
    tape winds), and whose program is looked at chooses the path. Raises OSError, EINVAL for what is none.
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW), dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)


def has_cached_lookup() -> bool:
    """Does this kernel know RESOLVE_CACHED?"""
    try:
        os.close(open_cached(b"/"))
    except OSError as error:
        return error.errno == errno.EAGAIN
    return True


def forbid_dumps() -> None:
    """PR_SET_DUMPABLE 0: no core file, and no ptrace or /proc/PID/mem by processes of the same user."""
    if _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise _errno("prctl")


def lock_memory(address: int, size: int) -> None:
    """mlock(2): these pages are never written to swap."""
    if _libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)) != 0:
        raise _errno("mlock")


def _errno(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
