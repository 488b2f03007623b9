"""The system calls of macOS that Python's os module does not offer, each as one typed function.

Contract: structures by Apple's headers (sys/proc_info.h, sys/mount.h, bsm/audit.h, sys/codesign.h), read at fixed
places. A failure raises OSError with the call's errno; ESRCH is a process that is gone, or (where an audit token is
given) another one than the token names.

An *audit token* is the kernel's name of one process at one time: beside the pid it holds the pid version, which grows
with every fork(2) and every execve(2), so that neither another process of that number nor another program in the same
process has the same token.

Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from keychain_auth.identity.facts import FileKey
from keychain_auth.native import library

TOKEN = struct.Struct("=8I")  # audit_token_t: auid, euid, egid, ruid, rgid, pid, asid, pid version

# csops(2) of sys/codesign.h
CS_VALID = 0x1
CS_GET_TASK_ALLOW = 0x4
CS_REQUIRE_LV = 0x2000
CS_RUNTIME = 0x10000
CS_PLATFORM_BINARY = 0x4000000
CS_DEBUGGED = 0x10000000
_CS_OPS_STATUS = 0

_ALL_PIDS = 1  # PROC_ALL_PIDS
_LIST_FDS, _BSD_INFO, _REGION, _WORKING_FOLDER = 1, 3, 8, 9  # PROC_PID…
_SOCKET_INFO = 3  # PROC_PIDFDSOCKETINFO
_IS_SOCKET = 2  # PROX_FDTYPE_SOCKET
_CLOSE_ON_EXEC = 2  # PROC_FP_CLEXEC
_TRACED = 2  # PROC_FLAG_TRACED
_PATH_BYTES = 4096  # PROC_PIDPATHINFO_MAXSIZE
_KERN_PROCARGS2 = (1, 49)  # CTL_KERN, KERN_PROCARGS2
_MOST_ARGUMENT_BYTES = 1024 * 1024  # ARG_MAX
_NOSUID, _LOCAL = 0x8, 0x1000  # MNT_NOSUID, MNT_LOCAL

_BSD = struct.Struct("=I12xII96xQQ")  # struct proc_bsdinfo: flags, ppid, uid, start in s and µs
_BSD_BYTES = 136
# struct vinfo_stat: dev, mode, nlink, ino, uid, gid, atime, mtime, ctime, birthtime (s, ns), size
_VNODE = struct.Struct("=IHHQII16xqqqq16xq")
_REGION_FILE, _REGION_BYTES = 96, 1272  # struct proc_regionwithpathinfo: behind struct proc_regioninfo
_FOLDER_PATH, _FOLDER_BYTES = 152, 2352  # struct proc_vnodepathinfo: two of struct vnode_info_path
_FD = struct.Struct("=iI")  # struct proc_fdinfo
# struct socket_fdinfo: fi_status; soi_so; soi_kind; unsi_conn_so
_SOCKET = struct.Struct("=4xI152xQ88xi4xQ")
_SOCKET_BYTES = 1024  # it has 792
_UNIX_KIND = 3  # SOCKINFO_UN
_STATFS = struct.Struct("=64xI4x16s")  # struct statfs with 64-bit inodes: f_flags, f_fstypename
_STATFS_BYTES = 2168


class Process(NamedTuple):
    """``start``: microseconds since the epoch. ``traced``: its parent is its debugger then."""

    parent: int
    uid: int
    traced: bool
    start: int


class Socket(NamedTuple):
    """A Unix socket of a process: the kernel's names of it and of its other end, and whether an exec would keep it."""

    own: int
    other: int
    inheritable: bool


class Filesystem(NamedTuple):
    """Where a file lies. ``local``: no other machine answers for it."""

    kind: str
    nosuid: bool
    local: bool


class _Calls(NamedTuple):
    info: Callable[..., int]
    fd_info: Callable[..., int]
    pids: Callable[..., int]
    path: Callable[..., int]
    code_status: Callable[..., int]
    statfs: Callable[..., int]
    sysctl: Callable[..., int]


@cache
def _calls() -> _Calls:
    libc = library.libsystem()
    number, address, size = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t

    def bound(name: str, *arguments: Any) -> Callable[..., int]:
        return library.bind(libc, name, number, *arguments)

    # On Intel the plain name is the structure with 32-bit inodes (sys/cdefs.h, __DARWIN_INODE64).
    statfs = "statfs$INODE64" if hasattr(libc, "statfs$INODE64") else "statfs"
    return _Calls(
        info=bound("proc_pidinfo", number, number, ctypes.c_uint64, address, number),
        fd_info=bound("proc_pidfdinfo", number, number, number, address, number),
        pids=bound("proc_listpids", ctypes.c_uint32, ctypes.c_uint32, address, number),
        path=bound("proc_pidpath", number, address, ctypes.c_uint32),
        code_status=bound("csops_audittoken", number, ctypes.c_uint, address, size, address),
        statfs=bound(statfs, ctypes.c_char_p, address),
        sysctl=bound("sysctl", address, ctypes.c_uint, address, address, address, size),
    )


def process(pid: int) -> Process:
    """What the process is. Raises OSError."""
    flags, parent, uid, seconds, micros = _BSD.unpack_from(_info(pid, _BSD_INFO, 0, _BSD_BYTES))
    return Process(parent, uid, bool(flags & _TRACED), seconds * 1_000_000 + micros)


def code_status(pid: int, token: bytes) -> int:
    """The flags of its code signature (CS_…), if it is still what ``token`` names. Raises OSError (ESRCH)."""
    flags = ctypes.c_uint32()
    given = (ctypes.c_char * TOKEN.size).from_buffer_copy(token)
    if _calls().code_status(pid, _CS_OPS_STATUS, ctypes.byref(flags), ctypes.sizeof(flags), given) != 0:
        raise _failed("csops_audittoken")
    return flags.value


def path_of(pid: int) -> str:
    """Where its executable is. Raises OSError."""
    buffer = ctypes.create_string_buffer(_PATH_BYTES)
    length = _calls().path(pid, buffer, _PATH_BYTES)
    if length <= 0:
        raise _failed("proc_pidpath")
    return os.fsdecode(buffer.raw[:length])


def running_file(pid: int) -> FileKey:
    """The file behind the lowest of its mapped memory: its own executable. Raises OSError."""
    raw = _info(pid, _REGION, 0, _REGION_BYTES)
    device, _, _, inode, _, _, mtime, mtime_ns, ctime, ctime_ns, size = _VNODE.unpack_from(raw, _REGION_FILE)
    if not inode:
        raise OSError(errno.EPROTO, "proc_pidinfo: its lowest memory is of no file")
    return FileKey(device, inode, size, mtime * 1_000_000_000 + mtime_ns, ctime * 1_000_000_000 + ctime_ns)


def working_folder(pid: int) -> str:
    """The process's working directory. Raises OSError."""
    raw = _info(pid, _WORKING_FOLDER, 0, _FOLDER_BYTES)
    return os.fsdecode(raw[_FOLDER_PATH:].partition(b"\0")[0])


def unix_sockets(pid: int) -> list[Socket]:
    """Its Unix sockets, each by every descriptor of it. Raises OSError."""
    found = []
    for fd, kind in _FD.iter_unpack(_whole(pid, _LIST_FDS, _FD.size)):
        if kind == _IS_SOCKET and (opened := unix_socket(pid, fd)) is not None:
            found.append(opened)
    return found


def unix_socket(pid: int, fd: int) -> Socket | None:
    """The Unix socket that is its descriptor ``fd``; None if that is closed or anything else. Raises OSError."""
    buffer = ctypes.create_string_buffer(_SOCKET_BYTES)
    if _calls().fd_info(pid, fd, _SOCKET_INFO, buffer, _SOCKET_BYTES) <= 0:
        if ctypes.get_errno() in (errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP):
            return None
        raise _failed("proc_pidfdinfo")
    status, own, kind, other = _SOCKET.unpack_from(buffer.raw)
    return Socket(own, other, not status & _CLOSE_ON_EXEC) if kind == _UNIX_KIND else None


def pids() -> list[int]:
    """All processes that there are. Raises OSError."""
    room = 4096
    while True:
        buffer = (ctypes.c_int32 * room)()
        filled = _calls().pids(_ALL_PIDS, 0, buffer, ctypes.sizeof(buffer))
        if filled <= 0:
            raise _failed("proc_listpids")
        if filled < ctypes.sizeof(buffer):
            return [pid for pid in buffer[: filled // 4] if pid > 0]
        room *= 2


def arguments(pid: int) -> tuple[str, ...]:
    """The words that it was started with, as they stand in its memory. Raises OSError."""
    name = (ctypes.c_int * 3)(*_KERN_PROCARGS2, pid)
    buffer, size = ctypes.create_string_buffer(_MOST_ARGUMENT_BYTES), ctypes.c_size_t(_MOST_ARGUMENT_BYTES)
    if _calls().sysctl(name, 3, buffer, ctypes.byref(size), None, 0) != 0:
        raise _failed("sysctl")
    return parse_arguments(buffer.raw[: size.value])


def parse_arguments(raw: bytes) -> tuple[str, ...]:
    """What KERN_PROCARGS2 answers: a count, the path, padding, then each word up to a NUL. Pure. Raises OSError."""
    if len(raw) < 4:
        raise OSError(errno.ESRCH, "no arguments")
    count = int.from_bytes(raw[:4], "little")
    words = raw[4:].partition(b"\0")[2].lstrip(b"\0").split(b"\0")
    return tuple(os.fsdecode(word) for word in words[: min(count, len(words))])


def filesystem(path: str) -> Filesystem:
    """What ``path`` lies on. Raises OSError."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _calls().statfs(os.fsencode(path), buffer) != 0:
        raise _failed("statfs")
    flags, kind = _STATFS.unpack_from(buffer.raw)
    return Filesystem(kind.partition(b"\0")[0].decode("ascii", "replace"), bool(flags & _NOSUID), bool(flags & _LOCAL))


def _info(pid: int, flavor: int, argument: int, size: int) -> bytes:
    """A structure of exactly ``size`` bytes. Raises OSError."""
    buffer = ctypes.create_string_buffer(size)
    filled = _calls().info(pid, flavor, argument, buffer, size)
    if filled != size:
        raise _failed("proc_pidinfo") if filled <= 0 else OSError(errno.EPROTO, "proc_pidinfo: another structure")
    return buffer.raw


def _whole(pid: int, flavor: int, each: int) -> bytes:
    """A list of structures of ``each`` bytes, however long it is. Raises OSError."""
    room = 256 * each
    while True:
        buffer = ctypes.create_string_buffer(room)
        ctypes.set_errno(0)
        filled = _calls().info(pid, flavor, 0, buffer, room)
        if filled < 0 or (filled == 0 and ctypes.get_errno()):  # 0 is an empty list, too
            raise _failed("proc_pidinfo")
        if filled < room:
            return buffer.raw[: filled - filled % each]
        room *= 2


def _failed(call: str) -> OSError:
    number = ctypes.get_errno() or errno.ESRCH
    return OSError(number, f"{call}: {os.strerror(number)}")
