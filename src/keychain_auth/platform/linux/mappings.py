"""Whose code a process has mapped: its program's, files that only root can change, and the rest.

/proc/PID/exe says what was started, not what was loaded into it: LD_PRELOAD, LD_AUDIT and LD_LIBRARY_PATH put code
into a program before its first own instruction. /proc/PID/maps says what is there (proc_pid_maps(5)): the file behind a
mapping by device and inode, and its path as the kernel knows it. The path is believed only if the file that stands
there is that file: what lies in a mount namespace of somebody else can be called anything (d_path in fs/d_path.c goes
up to the root of that namespace). And a number is one file's only for as long as that file is there.

What this does not promise: that the code of a file is unchanged in memory (``strict`` looks at that), that nothing else
was loaded and unmapped before this look, and nothing about code that is written as data and interpreted. On btrfs a
number is a subvolume's, and maps does not say whose: there a file of another subvolume with a made up name passes for
the one that it is called after.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import threading

from keychain_auth.identity.facts import Code, MappedFile
from keychain_auth.platform.base import NeedsThread
from keychain_auth.platform.linux.filesystem import Mount, MountTable
from keychain_auth.platform.linux.procfs import path_of, read_whole
from keychain_auth.platform.linux.syscalls import open_path, open_regular, statx_descriptor
from keychain_auth.platform.posix.ownership import only_root_writes

_KNOWN_FILES = 512  # each costs a descriptor
# Where nobody unmounts anything while the machine runs, so that a descriptor that is kept is in nobody's way.
_LASTING = ("/", "/usr", "/nix/store")
_LOOP_BYTES = 64 * 1024  # about 700 mappings: what the event loop may read at once
_PIECE_BYTES = 64 * 1024
_MOST_BYTES = 16 * 1024 * 1024
# Lines of executable mappings: addresses, permissions, offset, device, inode, and the name if there is one. Where there
# is none the line ends in a space, so what separates must be no newline: the next line would pass for the name. It
# begins with the newline of the line before, and not with "^", says where a field ends, and gives nothing back ("++"):
# so lines of other mappings take a tenth of the time.
_EXECUTABLE = re.compile(rb"\n([^-]++)-([^ ]++) ..x. [^ ]++ ([^:]++):([^ ]++) (\d++) *+(.*)")
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
        self._lasting = frozenset(filter(None, map(_mount_of, _LASTING)))
        # By path, device and inode as maps has them, each with a descriptor of the file. As long as that is open its
        # number has no other owner, even if root removes the file: only root could make one of these untrue.
        self._of_root: dict[Line, int] = {}
        self._one_at_a_time = threading.Lock()

    def close(self) -> None:
        """Let go of the files."""
        with self._one_at_a_time:
            while self._of_root:
                os.close(self._of_root.popitem()[1])

    def code_of(self, process_folder: int, program: Mount, inode: int, path: str, *, patient: bool) -> Code:
        """What the process behind the /proc folder has mapped to run.

        ``program``, ``inode`` and ``path`` (as /proc/PID/exe has it) are its executable's. Raises NeedsThread unless
        ``patient``, OSError when it is gone.
        """
        own_name = os.fsencode(path).replace(b"\n", rb"\012")  # as seq_path in fs/seq_file.c does
        own_line: Line = (b"%02x" % program.device[0], b"%02x" % program.device[1], b"%d" % inode, own_name)
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
            elif line == own_line:
                own = True  # also if it is root's, as the loader is that somebody runs by hand
            elif (
                line not in self._of_root
                # An upgrade removed it while it is in use.
                and (*line[:3], name.removesuffix(b" (deleted)")) not in self._of_root
                and not self._is_of_root(line, patient)
            ):
                named = os.fsdecode(name.replace(rb"\012", b"\n"))
                found[MappedFile(named, (int(line[0], 16), int(line[1], 16)), int(line[2]))] = None
        return Code(own, tuple(found), in_memory)

    def _is_of_root(self, line: Line, patient: bool) -> bool:
        """Only root could have put this file there, and its filesystem is one that does not lie."""
        try:
            fd = open_path(line[3], cached=not patient)
        except BlockingIOError:
            raise NeedsThread from None
        except OSError:
            return False  # removed, replaced, or with an odd name: not a file that the system installed
        kept = False
        try:
            about = statx_descriptor(fd)
            mount = self._mounts.mount(about.mount_id)
            same = (int(line[0], 16), int(line[1], 16)) == mount.device and int(line[2]) == about.inode
            trusted = same and mount.filesystem in self._filesystems and not mount.nosuid
            of_root = trusted and only_root_writes(path_of(fd))
            kept = of_root and about.mount_id in self._lasting and self._keep(line, fd)
            return of_root
        finally:
            if not kept:
                os.close(fd)

    def _keep(self, line: Line, fd: int) -> bool:
        """Remember the file ``fd``, and with that keep the descriptor. False if another look did so meanwhile."""
        if len(self._of_root) >= _KNOWN_FILES:
            self.close()
        with self._one_at_a_time:
            return self._of_root.setdefault(line, fd) == fd


def _mount_of(folder: str) -> int | None:
    """The id of the mount that ``folder`` lies on; None if there is no such folder."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        try:
            return statx_descriptor(fd).mount_id
        finally:
            os.close(fd)
    return None


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
    limit = _MOST_BYTES if patient else _LOOP_BYTES
    try:
        return read_whole(process_folder, "maps", limit, piece_bytes=_PIECE_BYTES)
    except OSError as error:
        if patient or error.errno != errno.E2BIG:
            raise
        raise NeedsThread from None
