"""Whose code a process has mapped: its program's, files that only root can change, and the rest.

/proc/PID/exe says what was started, not what was loaded into it: LD_PRELOAD, LD_AUDIT and LD_LIBRARY_PATH put code
into a program before its first own instruction. /proc/PID/maps says what is there (proc_pid_maps(5)): the file behind a
mapping by device and inode, and its path as the kernel knows it. The path is believed only if the file that stands
there is that file.

What this does not promise: that the code of a file is unchanged in memory (``strict`` looks at that), that nothing else
was loaded and unmapped before this look, and nothing about code that is written as data and interpreted.
"""

from __future__ import annotations

import errno
import os
import re
import struct

from keychain_auth.identity.facts import Code, MappedFile
from keychain_auth.platform.base import NeedsThread
from keychain_auth.platform.linux.filesystem import Mount, MountTable
from keychain_auth.platform.linux.procfs import path_of
from keychain_auth.platform.linux.syscalls import open_path, open_regular, statx_descriptor
from keychain_auth.platform.posix.ownership import only_root_writes

_KNOWN_FILES = 4096
_LOOP_BYTES = 64 * 1024  # about 700 mappings: what the event loop may read at once
_PIECE_BYTES = 64 * 1024
_MOST_BYTES = 16 * 1024 * 1024
# Lines of executable mappings: addresses, permissions, offset, device, inode, and the name if there is one. Where there
# is none the line ends in a space, so what separates must be no newline: the next line would pass for the name. It
# begins with the newline of the line before, and not with "^": that takes a fifth of the time.
_EXECUTABLE = re.compile(rb"\n([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)")
# The kernel's own pages. No process can give its memory one of these names: PR_SET_VMA_ANON_NAME makes "[anon:…]". But
# a process can make the vdso writable and write its own code there: then the pages are copies, which pagemap tells.
_KERNEL_PAGES = frozenset((b"[vdso]", b"[vsyscall]", b"[uprobes]"))
# Bits of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst): there, in swap, of a file or of the kernel.
_PRESENT, _SWAPPED, _NOT_ANONYMOUS = 1 << 63, 1 << 62, 1 << 61
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Memory that lies in no file of a disk: memfd_create(2), memfd_secret(2), shared anonymous, huge and System V memory.
# Only root could make files of such names in / and /dev.
_MEMORY_FILES = (b"/memfd:", b"/secretmem", b"/dev/zero (deleted)", b"/anon_hugepage", b"/SYSV")


Line = tuple[bytes, bytes, bytes, bytes]  # device major and minor, inode, name


class Mappings:
    """Looks at the mappings of processes; remembers which files only root can change."""

    def __init__(self, mounts: MountTable, filesystems: frozenset[str]) -> None:
        """``filesystems``: types whose answers are the kernel's own. On any other no file counts as root's."""
        self._mounts = mounts
        self._filesystems = filesystems
        # Only root could make one of these untrue, so they stay. By path, device and inode as maps has them.
        self._of_root: set[Line] = set()

    def code_of(self, process_folder: int, program: Mount, inode: int, *, patient: bool) -> Code:
        """What the process behind the /proc folder has mapped to run.

        ``program`` and ``inode`` are its executable's. Raises NeedsThread unless ``patient``, OSError when it is gone.
        """
        own_line = b"%02x" % program.device[0], b"%02x" % program.device[1], b"%d" % inode
        found: dict[MappedFile, None] = {}
        own = in_memory = False
        seen: set[Line] = set()
        for start, end, major, minor, number, name in _EXECUTABLE.findall(b"\n" + _read(process_folder, patient)):
            if name in _KERNEL_PAGES:
                in_memory |= name == b"[vdso]" and _is_copied(process_folder, int(start, 16), int(end, 16))
                continue
            line: Line = (major, minor, number, name)
            if line in seen:
                continue
            seen.add(line)
            if name[:1] != b"/" or name.startswith(_MEMORY_FILES):
                in_memory = True  # no name, the stack, the heap, or what the process called it
            elif line[:3] == own_line:
                own = True
            elif line not in self._of_root and (*line[:3], name.removesuffix(b" (deleted)")) not in self._of_root:
                # (An upgrade removed it while it is in use. Its inode has no new owner as long as it is mapped, and
                # only root can make files of such a name in a folder of root.)
                if self._is_of_root(line, patient):
                    self._remember(line)
                else:
                    path = os.fsdecode(name.replace(rb"\012", b"\n"))
                    found[MappedFile(path, (int(line[0], 16), int(line[1], 16)), int(line[2]))] = None
        return Code(own, tuple(found), in_memory)

    def _is_of_root(self, line: Line, patient: bool) -> bool:
        """Only root could have put this file there, and its filesystem is one that does not lie."""
        try:
            fd = open_path(line[3], cached=not patient)
        except BlockingIOError:
            raise NeedsThread from None
        except OSError:
            return False  # removed, replaced, or with an odd name: not a file that the system installed
        try:
            about = statx_descriptor(fd)
            mount = self._mounts.mount(about.mount_id)
            same = (int(line[0], 16), int(line[1], 16)) == mount.device and int(line[2]) == about.inode
            trusted = same and mount.filesystem in self._filesystems and not mount.nosuid
            return trusted and only_root_writes(path_of(fd))
        finally:
            os.close(fd)

    def _remember(self, line: Line) -> None:
        if len(self._of_root) >= _KNOWN_FILES:
            self._of_root.clear()
        self._of_root.add(line)


def open_mapped(file: MappedFile) -> int:
    """A readable descriptor of what stands at the path of ``file`` now.

    Raises OSError; whether it is that file is for the caller to see.
    """
    return open_regular(os.fsencode(file.path), follow=False)


def _is_copied(process_folder: int, start: int, end: int) -> bool:
    """Was a page of the kernel's mapping ``start`` to ``end`` written, so that the process has its own copy of it?"""
    fd = os.open("pagemap", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process_folder)
    try:
        raw = os.pread(fd, (end - start) // _PAGE_BYTES * 8, start // _PAGE_BYTES * 8)
    finally:
        os.close(fd)
    pages = struct.unpack(f"={len(raw) // 8}Q", raw)
    return any(page & _SWAPPED or (page & _PRESENT and not page & _NOT_ANONYMOUS) for page in pages)


def _read(process_folder: int, patient: bool) -> bytes:
    """The text of maps. It comes in pieces of about a page, whatever is asked for (fs/seq_file.c)."""
    fd = os.open("maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process_folder)
    try:
        pieces = []
        size = 0
        while piece := os.read(fd, _PIECE_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size > (_MOST_BYTES if patient else _LOOP_BYTES):
                if patient:
                    raise OSError(errno.E2BIG, "it has too many mappings")
                raise NeedsThread
        return b"".join(pieces)
    finally:
        os.close(fd)
