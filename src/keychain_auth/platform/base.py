"""What the daemon needs from an operating system, as small interfaces.

A platform is a folder beside this file; it fills in facts and moves bytes. What the facts mean is decided in
``identity`` and ``policy``, the same for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

import msgspec

from keychain_auth.identity.facts import (
    AncestorFacts,
    FileKey,
    HostFacts,
    MappedFile,
    PeerFacts,
    ScriptFacts,
    StrictFacts,
)
from keychain_auth.identity.launch import FrontFacts, StoppedFacts
from keychain_auth.model import Signature

Pace = Callable[[], None]
"""Called between the pieces of a long read: it may sleep, or raise to end the read."""


class PeerGone(Exception):
    """The process on the other end is gone, or does not let this user look at it. The text says which."""


class NeedsThread(Exception):
    """The look would take long enough to be felt by others: repeat it in a worker thread."""


class FileTooLarge(Exception):
    """The file exceeds the size up to which the daemon hashes."""


class Digest(msgspec.Struct, frozen=True, gc=False):
    """A file's SHA-256 in hex. ``of_root``: only root can change or replace it. ``keep``: it cannot change without its
    key changing.

    ``publisher`` and ``certificate`` as in ``Identity``, where the system says that of a file (Windows).
    ``signature`` is verified, for the same bytes as the hash. ``tried`` are the public keys that it may be by; None if
    the file is not signed, so that no key could make a difference.
    """

    key: FileKey
    sha256: str
    of_root: bool
    keep: bool
    signature: Signature | None = None
    tried: frozenset[bytes] | None = frozenset()
    publisher: str = ""
    certificate: str = ""

    def answers(self, keys: Collection[bytes]) -> bool:
        """Does it say whether one of ``keys`` signed the file?"""
        return self.tried is None or self.tried.issuperset(keys)


class Script(Protocol):
    """A script's opened file. ``facts`` are without its hash."""

    key: FileKey
    facts: ScriptFacts

    def hash(self, limit: int, pace: Pace) -> Digest:
        """Hash it; for a worker thread. Raises FileTooLarge, OSError, and what ``pace`` raises."""

    def hashed(self, sha256: str) -> ScriptFacts:
        """The facts with the hash in them."""

    def close(self) -> None:
        """Close the file. May be called twice."""


class Ancestor(Protocol):
    """A parent of the process on the other end, or a parent's parent, pinned."""

    pid: int

    def facts(self) -> AncestorFacts:
        """What the kernel says now; for a worker thread. Raises PeerGone."""

    def hash_program(self, limit: int, pace: Pace, keys: Collection[bytes] = ()) -> Digest:
        """See ``Peer.hash_program``."""

    def command_line(self) -> tuple[str, ...]:
        """See ``Peer.command_line``."""

    def open_script(self, word: str) -> Script | None:
        """See ``Peer.open_script``."""

    def parent(self) -> Ancestor | None:
        """See ``Peer.parent``."""

    def is_parent(self) -> bool:
        """Is it alive, and still the parent of the one that it was found from? Cheap."""

    def runs_same_exec(self) -> bool | None:
        """See ``Peer.runs_same_exec``."""

    def close(self) -> None:
        """Let go of the process."""


class Starter(NamedTuple):
    """A parent as it is shown to a person. ``executable`` is "" where this user may not see it; ``name`` is what the
    process calls itself. Not pinned: never for a rule."""

    pid: int
    executable: str
    name: str


class Peer(Protocol):
    """The process on the other end, pinned: never another process with the same number."""

    pid: int
    uid: int
    look: str
    """What ``runs_same_file`` and ``runs_same_exec`` look at: where it is equal they find the same, at the same moment.
    Empty before the first look."""

    def facts(self, *, patient: bool = False) -> PeerFacts:
        """What the kernel says now. Raises PeerGone; NeedsThread unless ``patient``."""

    def hash_program(self, limit: int, pace: Pace, keys: Collection[bytes] = ()) -> Digest:
        """Hash the running executable, and look whether one of the public ``keys`` signed it; for a worker thread.

        Raises PeerGone, FileTooLarge, and what ``pace`` raises.
        """

    def open_library(self, file: MappedFile) -> Script | None:
        """A mapped file, opened and not yet read; for a worker thread. None if it does not stand at its path."""

    def strict_facts(self) -> StrictFacts:
        """What strict mode looks at; milliseconds, for a worker thread. Raises PeerGone."""

    def command_line(self) -> tuple[str, ...]:
        """The process's own claim of its arguments; for a worker thread. Raises PeerGone."""

    def open_script(self, word: str) -> Script | None:
        """The file that ``word`` of the command line names, opened and not yet read; for a worker thread.

        None if there is no such file. Raises PeerGone.
        """

    def parent(self) -> Ancestor | None:
        """The process that started it, or has adopted it; None if that is the system (pid 1) or cannot be known."""

    def is_connected(self) -> bool:
        """Is the other end of the connection still open? A few microseconds."""

    def runs_same_file(self) -> bool | None:
        """Is its executable still the one of the first look? None if the process has ended. Cheap."""

    def runs_same_exec(self) -> bool | None:
        """As ``runs_same_file``, and not even started anew: an interpreter can run another script by an exec."""

    def close(self) -> None:
        """Let go of the process."""


class Front(Protocol):
    """A process that is about to become a launched script. See ``linux/launch.py`` for the order of the calls."""

    pid: int

    def facts(self) -> FrontFacts:
        """What it is now. Raises OSError when it is gone."""

    def open_file(self, path: str) -> Script:
        """The file at ``path``, opened and not yet read; for a worker thread. Raises OSError."""

    def open_script(self, number: int) -> tuple[int, tuple[int, int]]:
        """A readable descriptor of the sealed memory file that is its descriptor ``number``, and (device, inode).

        Raises OSError, and PeerGone if it is anything else.
        """

    def seize(self) -> None:
        """Trace it from now on, in this thread. Raises OSError, PeerGone."""

    def wait_for_exec(self, seconds: float) -> None:
        """Return when it stands before its first instruction, within ``seconds``. Raises PeerGone."""

    def stopped_facts(self, script_fd: int, known: Digest) -> StoppedFacts:
        """What the exec made of it. ``known`` is the interpreter's digest. Raises OSError, PeerGone."""

    def let_go(self) -> None:
        """Let the stopped process run. Raises OSError."""

    def kill(self) -> None:
        """End it, if it has not ended by itself."""

    def share_pidfd(self) -> int:
        """A descriptor that can be read once the process has ended, for who closes it."""

    def close(self) -> None:
        """Let go of it; not to be called before the thread that traces it is done. May be called twice."""


class Channel(Protocol):
    """One connection, non-blocking."""

    def fileno(self) -> int:
        """The descriptor for the event loop."""

    def receive(self) -> tuple[bytes, int | None]:
        """The next bytes, and the pid that the kernel says sent them; None if it attached none, or more than that.

        No bytes: the end of the stream. Raises BlockingIOError, ConnectionError.
        """

    def send(self, data: bytes | memoryview) -> int:
        """Send what fits; returns the number of bytes. Raises BlockingIOError, ConnectionError."""

    def end_input(self) -> None:
        """Take no more than what was sent until now: whoever sends from now on is told that it was not taken."""

    def end_output(self) -> None:
        """No more answers: the client sees the end of the stream after what was sent."""

    def peer(self) -> Peer:
        """The process on the other end. Raises PeerGone."""

    def peer_credentials(self) -> tuple[int, int]:
        """(pid, uid) that the kernel recorded at connect."""

    def close(self) -> None:
        """Close it. May be called twice."""


class Listener(Protocol):
    """A bound endpoint."""

    path: str

    def fileno(self) -> int:
        """The descriptor for the event loop."""

    def accept(self) -> Channel:
        """The next connection. Raises BlockingIOError, OSError."""

    def may_have_more(self) -> bool:
        """False if ``accept`` would find nobody at this moment."""

    def share(self) -> tuple[int, bool]:
        """The endpoint for the daemon that comes next: a descriptor, and whether that has to remove it at its end.

        From now on ``close`` leaves the endpoint where it is.
        """

    def close(self) -> None:
        """Stop listening and remove the endpoint, if it is still the one that this object made."""


class Readiness(Protocol):
    """Waits for everything that the daemon waits for, and tells when a connection can be read."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that waits by this; closing it closes this too. Called once."""

    def serve_by(self, serve: Callable[[list[Callable[[], None]]], object]) -> None:
        """``serve`` is called with the callbacks of all connections that can be read now.

        If it returns False, somebody waits for another thread: that should not be held up by looking who asks again.
        """

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ``fd`` can be read. A descriptor is added once."""

    def remove(self, fd: int) -> None:
        """Watch ``fd`` no more; to be called before it is closed."""


class Platform(Protocol):
    """One operating system."""

    def readiness(self) -> Readiness:
        """What the daemon's event loop waits by."""

    def host(self) -> HostFacts:
        """The daemon's own side of every comparison."""

    def listen(self, path: str) -> Listener:
        """Bind ``path``. Raises DaemonAlreadyRunning, OSError, UnsafeFile."""

    def tell(self, state: str) -> None:
        """Tell the service manager, if there is one: "READY=1" (sd_notify(3))."""

    def front(self, pid: int) -> Front:
        """The process ``pid``, which is known to live, to be launched. Raises PeerGone."""

    launches: bool
    """Whether scripts can be launched on this system at all."""
    hands_on: bool
    """Whether a daemon can hand its listeners to the next one (``Listener.share``)."""

    def launch_forbidden(self) -> str:
        """Why no script can be launched on this machine, "" if it can."""

    def rules(self) -> dict[str, str]:
        """Which rules of identity are in force on this machine, for ``status``."""

    def close(self) -> None:
        """Release what the platform holds."""
