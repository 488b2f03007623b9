"""Whose code a process has mapped: its program's, files that only Windows' own can change, and the rest.

A program loads its libraries from its own folder first, so whoever may write there, or sets what it looks up (PATH, the
registry), puts code into it before its first own instruction. The kernel says what is there (VirtualQueryEx): each part
of the memory that can be run, what kind it is, and the file behind it (GetMappedFileName). The list of modules that
Toolhelp and EnumProcessModules give is not asked: it lies in the process's own memory (PEB), which it can write.

A path is believed only if the file that stands there now is the one that the kernel's name leads to, and a file counts
as Windows' own only on a filesystem that the daemon trusts.

What this does not promise: that the code of a file is unchanged in memory, that nothing was loaded and unloaded before
this look or is loaded after it, and nothing about code that is written as data and interpreted. A library that is
loaded cannot be written, but it can be renamed and another put in its place: whether the kernel's name follows it then,
nobody here has seen on Windows (docs/platforms.md). So what is listed in an entry rests on that; what is not, does not.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import ctypes
import os
from collections.abc import Iterator
from ctypes import wintypes
from typing import NamedTuple

from keychain_auth.identity.facts import Code, FileKey, MappedFile
from keychain_auth.platform.base import PeerGone
from keychain_auth.platform.windows import place

_COMMITTED = 0x1000  # MEM_COMMIT
_RUNS = 0x10 | 0x20 | 0x40 | 0x80  # PAGE_EXECUTE and its kinds
_PRIVATE = 0x20000  # MEM_PRIVATE: of no file, what a just-in-time compiler makes
_MOST_REGIONS = 200_000  # a second's work; what a process has is under its own control
_KNOWN_FILES = 4096
_LONGEST_NAME = 32768
_VERBATIM = "\\\\?\\"
_DOS_DEVICES = "\\??\\"


class _Region(ctypes.Structure):
    """MEMORY_BASIC_INFORMATION of a 64-bit process."""

    _fields_ = (
        ("base", ctypes.c_uint64), ("allocation", ctypes.c_uint64), ("allocated_as", wintypes.DWORD),
        ("partition", wintypes.WORD), ("size", ctypes.c_uint64), ("state", wintypes.DWORD),
        ("protection", wintypes.DWORD), ("kind", wintypes.DWORD),
    )  # fmt: skip


class _Mapping(NamedTuple):
    """Memory that can be run. ``name`` is the kernel's for the file behind it, "" for none."""

    private: bool
    name: str


_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel.VirtualQueryEx.argtypes = (wintypes.HANDLE, ctypes.c_uint64, ctypes.POINTER(_Region), ctypes.c_size_t)
_kernel.VirtualQueryEx.restype = ctypes.c_size_t
_kernel.K32GetMappedFileNameW.argtypes = (wintypes.HANDLE, ctypes.c_uint64, wintypes.LPWSTR, wintypes.DWORD)
_kernel.K32GetMappedFileNameW.restype = wintypes.DWORD


class Modules:
    """Looks at what processes have mapped; remembers which files only Windows' own can change."""

    def __init__(self, filesystems: frozenset[str]) -> None:
        """``filesystems``: those whose answers are this machine's own. On any other no file counts as Windows'."""
        self._filesystems = filesystems
        self._of_root: set[str] = set()  # by the kernel's name: only Windows' own could make one of these untrue

    def code_of(self, process: int, program: FileKey) -> Code:
        """What the process (a handle with PROCESS_QUERY_INFORMATION) has mapped to run. Raises PeerGone."""
        found: dict[MappedFile, None] = {}
        own = in_memory = False
        for mapping in set(_mappings(process)):
            if mapping.private or not mapping.name:
                in_memory = True
            elif mapping.name not in self._of_root:
                file = file_of(mapping.name)
                if (file.device[0], file.inode) == (program.device, program.inode):
                    own = True
                elif self._is_of_root(file):
                    self._remember(mapping.name)
                else:
                    found[file] = None
        return Code(own, tuple(sorted(found, key=lambda file: file.path)), in_memory)

    def _is_of_root(self, file: MappedFile) -> bool:
        try:
            about = os.stat(file.path)
        except OSError:
            return False
        same = file.inode != 0 and ((about.st_dev, 0), about.st_ino) == (file.device, file.inode)
        return same and place.filesystem_of(file.path) in self._filesystems and place.only_root_writes(file.path)

    def _remember(self, name: str) -> None:
        if len(self._of_root) >= _KNOWN_FILES:
            self._of_root.clear()
        self._of_root.add(name)


def file_of(name: str) -> MappedFile:
    """The file behind the kernel's ``name`` (``\\Device\\HarddiskVolume3\\…``); its inode is 0 where none stands there.

    It is opened by that name: what a drive letter means, any program of the same session can change (DefineDosDevice).
    """
    opened = openable(name)
    try:
        about = os.stat(opened)
        path = os.path.realpath(opened, strict=True)
    except OSError:
        return MappedFile(name, (0, 0), 0)
    return MappedFile(path.removeprefix(_VERBATIM), (about.st_dev, 0), about.st_ino)


def openable(name: str) -> str:
    """The kernel's name of a file as CreateFile takes it. Wine's are those of drives already."""
    if name.startswith(_DOS_DEVICES):
        return _VERBATIM + name.removeprefix(_DOS_DEVICES)
    return f"{_VERBATIM}GLOBALROOT{name}"


def _mappings(process: int) -> Iterator[_Mapping]:
    region, address = _Region(), 0
    name = ctypes.create_unicode_buffer(_LONGEST_NAME)
    for _ in range(_MOST_REGIONS):
        if not _kernel.VirtualQueryEx(process, address, ctypes.byref(region), ctypes.sizeof(region)):
            if address == 0:
                raise PeerGone("what it has loaded cannot be looked at")
            return
        if region.state == _COMMITTED and region.protection & _RUNS:
            private = region.kind == _PRIVATE
            length = 0 if private else _kernel.K32GetMappedFileNameW(process, region.base, name, len(name))
            yield _Mapping(private, name.value if length else "")
        address = region.base + region.size
    raise PeerGone("it has too many mappings")
