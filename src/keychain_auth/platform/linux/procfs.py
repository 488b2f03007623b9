"""One process, seen through its folder in /proc.

The folder is opened once. Such a descriptor belongs to the process, not to its number: when the process is gone every
look through it fails (ESRCH or ENOENT), even if the pid has a new owner by then (fs/proc/base.c resolves
through the inode's ``struct pid``). So a pid is turned into a process once, at accept, and never again.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from operator import itemgetter

from keychain_auth.identity.facts import ExecId, Namespaces

# Fields of /proc/PID/stat, counted after the closing parenthesis of the name (proc(5) numbers them from 1, the state
# is field 3): parent 4; start time 22; code and stack addresses 26 to 28; data, brk, argument and environment addresses
# 45 to 51.
_PARENT = 4 - 3
_START_TIME = 22 - 3
_LAYOUT = itemgetter(26 - 3, 27 - 3, 28 - 3, 45 - 3, 46 - 3, 47 - 3, 48 - 3, 49 - 3, 50 - 3, 51 - 3)
_STAT_BYTES = 4096
_ARGUMENTS_BYTES = 128 * 1024


class Status:
    """/proc/PID/status, of which each field is read when it is asked for.

    The name of a process is escaped there, so it cannot forge a line.
    """

    __slots__ = ("_text",)

    def __init__(self, text: bytes) -> None:
        self._text = text

    @property
    def tracer(self) -> int:
        """The pid that traces it, 0 for none."""
        return _number(self._text, b"\nTracerPid:")

    @property
    def seccomp_filters(self) -> int:
        """How many it runs under; 0 where the kernel does not say."""
        return _number(self._text, b"\nSeccomp_filters:")

    @property
    def threads(self) -> int:
        """How many it has."""
        return _number(self._text, b"\nThreads:")

    @property
    def ignored(self) -> int:
        """Bit N-1 is set for each ignored signal N."""
        return _number(self._text, b"\nSigIgn:", 16)

    @property
    def gids(self) -> tuple[int, ...]:
        """Real, effective and saved group."""
        return _numbers(self._text, b"\nGid:")[:3]

    @property
    def file_gids(self) -> frozenset[int]:
        """The groups whose files it may use: that of its filesystem accesses, and the supplementary ones."""
        return frozenset((*_numbers(self._text, b"\nGid:")[3:], *_numbers(self._text, b"\nGroups:")))


def _number(text: bytes, field: bytes, base: int = 10) -> int:
    at = text.find(field)
    return int(text[at + len(field) : text.index(b"\n", at + 1)], base) if at >= 0 else 0


def _numbers(text: bytes, field: bytes) -> tuple[int, ...]:
    at = text.find(field)
    return tuple(map(int, text[at + len(field) : text.index(b"\n", at + 1)].split())) if at >= 0 else ()


class Process:
    """A process behind an open descriptor of its /proc folder.

    Every method raises ProcessLookupError, FileNotFoundError or PermissionError (all OSError) when the process is gone,
    or does not let this user look (a program that made itself non-dumpable).
    """

    __slots__ = ("folder", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.folder = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the process. May be called twice."""
        if self.folder >= 0:
            os.close(self.folder)
            self.folder = -1

    def namespaces(self) -> Namespaces:
        """The inode numbers of its user, pid and mount namespaces."""
        # The text of such a link is "user:[4026531837]", with the inode: half the price of a stat (namespaces(7)).
        folder = self.folder
        user = os.readlink("ns/user", dir_fd=folder)
        pid = os.readlink("ns/pid", dir_fd=folder)
        mount = os.readlink("ns/mnt", dir_fd=folder)
        return Namespaces(int(user[len("user:[") : -1]), int(pid[len("pid:[") : -1]), int(mount[len("mnt:[") : -1]))

    def open_executable(self) -> int:
        """An O_PATH descriptor of the file that runs, through the magic link: no path is looked up."""
        return os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=self.folder)

    def open_executable_content(self) -> int:
        """A readable descriptor of the file that runs."""
        return os.open("exe", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=self.folder)

    def executable_path(self) -> str:
        """The text of the magic link: for people, never to be opened."""
        return os.readlink("exe", dir_fd=self.folder)

    def first_words(self, limit: int) -> bytes:
        """The first ``limit`` bytes of its command line, as they are."""
        return self._read("cmdline", limit)

    def open_mountinfo(self) -> int:
        """Its table of mounts."""
        return os.open("mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder)

    def open_working_folder(self) -> int:
        """An O_PATH descriptor of its working directory."""
        return os.open("cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder)

    def parent(self) -> int:
        """The number of its parent: who started it, or has adopted it since; 0 for one in no namespace of ours."""
        return int(self._read("stat", _STAT_BYTES).rpartition(b")")[2].split()[_PARENT])

    def exec_id(self) -> ExecId:
        """Start time and memory layout: another exec, or another process, has others."""
        return _exec_id(self._read("stat", _STAT_BYTES))

    def open_stat(self) -> int:
        """A descriptor for ``exec_id_now``."""
        return os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder)

    def status(self) -> Status:
        """Who traces it, and how many seccomp filters it runs under (proc_pid_status(5))."""
        return Status(self._read("status", 8192))

    def guard(self, gids: tuple[int, ...]) -> int:
        """The group by which an exec made it unreadable to its own user, -1 if it is not.

        After an exec with an effective group that is not the real one the process is not dumpable (begin_new_exec in
        fs/exec.c) and its loader obeys no variable (AT_SECURE). Only such a process has root's files here while its
        effective user is another one (task_dump_owner in fs/proc/base.c).
        """
        if len(gids) != 3 or gids[0] == gids[1] or gids[1] != gids[2]:
            return -1
        return gids[1] if os.stat("status", dir_fd=self.folder).st_uid == 0 else -1

    def arguments(self) -> tuple[str, ...]:
        """The command line. It is the process's own memory: a claim, not a fact.

        Raises OSError (E2BIG) for one that is too long to be read whole: cut off, it would say something else.
        """
        raw = self._read("cmdline", _ARGUMENTS_BYTES)
        if len(raw) >= _ARGUMENTS_BYTES:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return tuple(word.decode("utf-8", "surrogateescape") for word in raw.removesuffix(b"\0").split(b"\0"))

    def read_all(self, name: str, limit: int) -> bytes:
        """A file of the folder, whole. Raises OSError (E2BIG) beyond ``limit`` bytes."""
        return read_whole(self.folder, name, limit)

    def _read(self, name: str, limit: int) -> bytes:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder)
        try:
            return os.read(fd, limit)
        finally:
            os.close(fd)


def exec_id_now(stat: int) -> ExecId:
    """As ``Process.exec_id``, by a descriptor of ``open_stat``.

    The kernel looks at the process anew for each read from the beginning (seq_read_iter in fs/seq_file.c,
    proc_single_show in fs/proc/base.c): to open the file again would show nothing else, for twice the time.
    """
    return _exec_id(os.pread(stat, _STAT_BYTES, 0))


def _exec_id(text: bytes) -> ExecId:
    # The name in parentheses may hold spaces and parentheses itself; nothing after the last one can.
    fields = text.rpartition(b")")[2].split()
    return ExecId(int(fields[_START_TIME]), (b" ".join(_LAYOUT(fields)).decode("ascii"),))


def read_whole(folder: int, name: str, limit: int, *, piece_bytes: int = 64 * 1024) -> bytes:
    """A file of a folder in /proc. Raises OSError (E2BIG) beyond ``limit`` bytes."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        pieces = []
        size = 0
        while piece := os.read(fd, piece_bytes):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise OSError(errno.E2BIG, f"its {name} has more than {limit} bytes")
        return b"".join(pieces)
    finally:
        os.close(fd)


def path_of(fd: int) -> str:
    """The path that an open descriptor of this process has now, as a text: " (deleted)" at its end may be a name."""
    return os.readlink(f"/proc/self/fd/{fd}")


def open_own_mounts() -> int:
    """A descriptor of this process's table of mounts, which polls as POLLPRI once for each change."""
    return os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)


def pids() -> Iterator[int]:
    """The processes that there are at this moment, as far as they are shown to this one."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def open_files(pid: int) -> Iterator[str]:
    """What the descriptors of a process lead to, as texts; those that go meanwhile are left out.

    By its number: for a look at everybody, where a mistake of identity does no harm. Raises OSError.
    """
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{name}")


def own_surroundings() -> tuple[Namespaces, int]:
    """The namespaces of this process, and its number of seccomp filters."""
    process = Process(os.getpid())
    try:
        return process.namespaces(), process.status().seccomp_filters
    finally:
        process.close()
