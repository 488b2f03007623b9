"""What the kernel said about the process on the other end: plain facts, no opinion.

A platform fills these in; ``attest`` judges them. A fact that a platform cannot know is None, and attest
decides whether that is acceptable: never the platform.
"""

from __future__ import annotations

import msgspec


class FileKey(msgspec.Struct, frozen=True, gc=False):
    """One version of one file. Any change of content changes ``ctime_ns`` (only root can set the clock back)."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class FileFacts(msgspec.Struct, frozen=True, gc=False):
    """An opened file: its version, the name the kernel gives it, and the filesystem it lies on."""

    path: str
    key: FileKey
    filesystem: str


class Namespaces(msgspec.Struct, frozen=True, gc=False):
    """Inode numbers of the namespaces that decide what a path or a pid means."""

    user: int
    pid: int
    mount: int


class ExecId(msgspec.Struct, frozen=True, gc=False):
    """What tells one exec from another, and one holder of a pid from the next.

    Start time in clock ticks since boot, and the layout of its memory as the system says it. A process that switched
    address randomisation off (personality(2)) can keep the layout over an exec of the same file: never the only thing
    to rest on.
    """

    start_time: int
    layout: tuple[int | str, ...]


class MappedFile(msgspec.Struct, frozen=True, gc=False):
    """A file beside the program whose code the process has mapped, and that somebody other than root could replace.

    ``device`` is (major, minor) of its filesystem, which on some is another than in ``FileKey``.
    """

    path: str
    device: tuple[int, int]
    inode: int


class Code(msgspec.Struct, frozen=True, gc=False):
    """What a process has mapped to run. ``program``: its own executable is among it. ``files``: those that somebody
    other than root could have put there. ``in_memory``: some of it comes from no file of a disk."""

    program: bool
    files: tuple[MappedFile, ...] = ()
    in_memory: bool = False


class StrictFacts(msgspec.Struct, frozen=True, gc=False):
    """What only strict mode looks at.

    ``patched``: a file whose mapped code was changed in memory, "" if there is none. ``traced``: one of its threads is
    traced. ``holders``: pids of other processes that hold the peer end of the connection.
    """

    patched: str
    traced: bool
    holders: tuple[int, ...]


class PeerFacts(msgspec.Struct, frozen=True, gc=False):
    """The process that connected, as seen at one moment.

    ``at_path`` is (device, inode) of what stands at ``executable.path`` now, None if nothing does.
    ``holds_socket``: the process itself has the peer end of this connection open.
    ``inheritable``: one of its descriptors for that end would survive an exec.
    ``seccomp_filters``: how many it runs under. ``tracer``: the pid that traces it, 0 for none.
    ``retired``: the file was removed from ``executable.path``, where it was verified before (see ``attest.retired``).
    ``guard``: the group by which it was made unreadable to its own user, -1 if it was not.
    ``publisher``: who signed the code that it runs, "" where nobody did or the system has no such thing.
    ``integrity``: its integrity level (Windows), 0 where there is none.
    ``steady``: executable and ``exec_id`` were the same before and after everything else was looked at.
    ``sockets``: the numbers of the connection's two ends, the daemon's first; empty where scripts are not launched.
    """

    pid: int
    uid: int
    namespaces: Namespaces
    executable: FileFacts
    at_path: tuple[int, int] | None
    holds_socket: bool
    inheritable: bool
    exec_id: ExecId
    seccomp_filters: int
    tracer: int
    code: Code
    steady: bool
    retired: bool = False
    guard: int = -1
    publisher: str = ""
    integrity: int = 0
    sockets: tuple[int, ...] = ()


class AncestorFacts(msgspec.Struct, frozen=True, gc=False):
    """A parent, or a parent's parent, of a process that connected; the fields as in ``PeerFacts``."""

    pid: int
    uid: int
    namespaces: Namespaces
    executable: FileFacts
    at_path: tuple[int, int] | None
    exec_id: ExecId
    tracer: int
    code: Code
    steady: bool


class ScriptFacts(msgspec.Struct, frozen=True, gc=False):
    """The file that an interpreter's command line declares.

    ``sha256`` is empty until it was read. ``writable_by_others`` names the first folder of the chain, or the file
    itself, that somebody other than root and this user could change; empty if there is none.
    """

    path: str
    sha256: str
    filesystem: str
    writable_by_others: str = ""


class HostFacts(msgspec.Struct, frozen=True, gc=False):
    """The daemon's own side of the comparison, read once at start.

    ``serves_all``: it serves every user of the machine, not its own alone. ``guard``: the group of those processes that
    were made unreadable to their own user (see ``PeerFacts``), -1 where there is no such group.
    """

    uid: int
    namespaces: Namespaces
    filesystems: frozenset[str]
    seccomp_filters: int = 0
    serves_all: bool = False
    guard: int = -1
    integrity: int = 0
