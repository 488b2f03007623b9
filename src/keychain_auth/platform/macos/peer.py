"""The process on the other end of a Unix connection: what macOS says of it.

Pinned by its audit token: each look begins and ends with a call that fails unless the process is still the one, and
still runs the program, that the token names. There are no namespaces and no seccomp filters on macOS.

Code: what the kernel says of the signature. A program with the hardened runtime and library validation (or one of
Apple's own) has nothing in it but what it was signed with. Of any other it cannot be known what was loaded into it
(DYLD_INSERT_LIBRARIES): that is reported as executable memory, which an entry has to allow.

Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection

from keychain_auth.identity.facts import (
    Code,
    ExecId,
    FileFacts,
    FileKey,
    MappedFile,
    Namespaces,
    PeerFacts,
    StrictFacts,
)
from keychain_auth.platform.base import Ancestor, Digest, NeedsThread, Pace, PeerGone
from keychain_auth.platform.macos import libproc, openfile
from keychain_auth.platform.macos.audit_token import Token, peer_pid, peer_token
from keychain_auth.platform.macos.code_signature import team_of

NAMESPACES = Namespaces(0, 0, 0)  # the same for all: macOS has none
_PROTECTED = libproc.CS_RUNTIME | libproc.CS_REQUIRE_LV


class MacosPeer:
    """See ``Peer``. ``token``: taken when the connection was accepted. Raises PeerGone."""

    __slots__ = ("_connection", "_file", "_publisher", "_token", "look", "pid", "uid")

    def __init__(self, connection: socket.socket, token: Token, uid: int) -> None:
        self.pid = token.pid
        self.uid = uid
        self.look = ""
        self._connection = connection
        self._token = token
        self._file: tuple[int, int] | None = None
        self._publisher: str | None = None
        try:
            libproc.code_status(token.pid, token.raw)
        except OSError as error:
            raise _gone(error) from None

    def close(self) -> None:
        """See ``Peer.close``. Nothing is held."""

    def is_connected(self) -> bool:
        """See ``Peer.is_connected``."""
        try:
            peer_pid(self._connection)
        except OSError:
            return False
        return True

    def runs_same_file(self) -> bool | None:
        """See ``Peer.runs_same_file``: the token says more, that it was not even started anew."""
        return self.runs_same_exec()

    def runs_same_exec(self) -> bool | None:
        """See ``Peer.runs_same_exec``. One system call."""
        try:
            libproc.code_status(self.pid, self._token.raw)
        except OSError:
            try:
                libproc.process(self.pid)
            except OSError:
                return None
            return False
        return True

    def facts(self, *, patient: bool = False) -> PeerFacts:
        """See ``Peer.facts``. It asks the filesystem of the executable: never in the event loop."""
        if not patient:
            raise NeedsThread
        try:
            status = libproc.code_status(self.pid, self._token.raw)
            process = libproc.process(self.pid)
            executable = self._executable()
            holds, inheritable = self._holding(self.pid)
            token = peer_token(self._connection)
            again = self._executable()
            if self._publisher is None:  # reads the whole program, once
                self._publisher = team_of(self._token.raw)
            libproc.code_status(self.pid, self._token.raw)
        except OSError as error:
            raise _gone(error) from None
        place = executable.key.device, executable.key.inode
        if self._file is None:
            self._file = place
            self.look = f"{self.pid} {self._token.version} {process.start}"
        traced = process.traced or bool(status & libproc.CS_DEBUGGED)
        return PeerFacts(
            pid=self.pid,
            uid=self.uid,
            namespaces=NAMESPACES,
            executable=executable,
            at_path=_at_path(executable.path),
            holds_socket=holds and (token.pid, token.version) == (self.pid, self._token.version),
            inheritable=inheritable,
            exec_id=ExecId(process.start, (self._token.version,)),
            seccomp_filters=0,
            tracer=process.parent if traced else 0,
            code=Code(program=True, in_memory=not is_protected(status)),
            steady=again == executable,
            publisher=self._publisher,
        )

    def strict_facts(self) -> StrictFacts:
        """See ``Peer.strict_facts``. What is not validly signed cannot be known to be unchanged."""
        try:
            status = libproc.code_status(self.pid, self._token.raw)
            process = libproc.process(self.pid)
            path = libproc.path_of(self.pid)
            own = libproc.unix_socket(os.getpid(), self._connection.fileno())
            other = own.other if own is not None else 0
            holders = tuple(pid for pid in libproc.pids() if pid != self.pid and _has(pid, other))
        except OSError as error:
            raise _gone(error) from None
        traced = process.traced or bool(status & libproc.CS_DEBUGGED)
        return StrictFacts("" if status & libproc.CS_VALID else path, traced, holders)

    def command_line(self) -> tuple[str, ...]:
        """See ``Peer.command_line``."""
        try:
            return libproc.arguments(self.pid)
        except OSError as error:
            raise _gone(error) from None

    def hash_program(self, limit: int, pace: Pace, keys: Collection[bytes] = ()) -> Digest:
        """See ``Peer.hash_program``: the file at its path, if that is the very one that runs."""
        try:
            path, running = libproc.path_of(self.pid), libproc.running_file(self.pid)
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise _gone(error) from None
        try:
            found = openfile.digest(fd, path, limit, pace, keys)
        finally:
            os.close(fd)
        if _place(found.key) != _place(running):
            raise PeerGone("the file at its path is not the one that runs: it was replaced since")
        return found

    def open_library(self, file: MappedFile) -> openfile.MacosFile | None:
        """See ``Peer.open_library``. None is ever named (``Code``)."""
        return None

    def open_script(self, word: str) -> openfile.MacosFile | None:
        """See ``Peer.open_script``: the word is resolved from the process's working directory."""
        try:
            folder = libproc.working_folder(self.pid)
        except OSError as error:
            raise _gone(error) from None
        return openfile.open_file(os.path.join(folder, word), self.uid)

    def parent(self) -> Ancestor | None:
        """See ``Peer.parent``. A parent is not pinned on macOS, so it cannot be known."""
        return None

    def _executable(self) -> FileFacts:
        path = libproc.path_of(self.pid)
        return FileFacts(path, libproc.running_file(self.pid), libproc.filesystem(path).kind)

    def _holding(self, pid: int) -> tuple[bool, bool]:
        """Does the process hold the other end, and would one of its descriptors of it survive an exec?"""
        own = libproc.unix_socket(os.getpid(), self._connection.fileno())
        if own is None or own.other == 0:
            return False, False
        theirs = [each for each in libproc.unix_sockets(pid) if each.own == own.other]
        return bool(theirs), any(each.inheritable for each in theirs)


def is_protected(status: int) -> bool:
    """Can nothing be in its memory to run but what it was signed with? Pure."""
    if not status & libproc.CS_VALID or status & (libproc.CS_GET_TASK_ALLOW | libproc.CS_DEBUGGED):
        return False
    return bool(status & libproc.CS_PLATFORM_BINARY) or status & _PROTECTED == _PROTECTED


def _has(pid: int, other: int) -> bool:
    try:
        return other != 0 and any(each.own == other for each in libproc.unix_sockets(pid))
    except OSError:
        return False  # another user's, or gone


def _at_path(path: str) -> tuple[int, int] | None:
    try:
        return _place(openfile.key_of(os.stat(path)))
    except OSError:
        return None


def _place(key: FileKey) -> tuple[int, int]:
    return key.device, key.inode


def _gone(error: OSError) -> PeerGone:
    if error.errno in (errno.EACCES, errno.EPERM):
        return PeerGone("it does not let its own user look at it (is it setuid?)")
    if error.errno == errno.ESRCH:
        return PeerGone("the process that connected has ended, or runs another program")
    return PeerGone(f"it cannot be looked at: {error.strerror}")
