"""The process on the other end of a pipe: every fact that identity needs, in one look.

What Windows makes easier than Linux: a process cannot replace its program, and a file that runs cannot be written. What
it makes harder: a file that runs can be renamed, and another put in its place (``Process.runs``); nobody says who sent
a byte, or who else holds a handle.

A fact of Linux that there is no counterpart of is what the daemon itself has: one set of namespaces, no filters; the
process holds its end, and no program is ever started over it.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import msvcrt
import os
from collections.abc import Callable, Collection

import msgspec

from keychain_auth.identity.facts import (
    Code,
    ExecId,
    FileFacts,
    MappedFile,
    Namespaces,
    PeerFacts,
    StrictFacts,
)
from keychain_auth.platform.base import Ancestor, Digest, NeedsThread, Pace, PeerGone
from keychain_auth.platform.windows import openfile
from keychain_auth.platform.windows.authenticode import publisher_of
from keychain_auth.platform.windows.modules import Modules
from keychain_auth.platform.windows.place import LOCAL_FILESYSTEMS, filesystem_of, windows_own
from keychain_auth.platform.windows.process import Process, own_integrity

NAMESPACES = Namespaces(0, 0, 0)


class Host:
    """What looks at all peers have in common. ``filesystems``: those that the daemon trusts.

    ``sections``: whether this Windows compares files with what runs. ``modules``: what looks at loaded code; None where
    this user can change Windows' own files, so that the look would say nothing.
    """

    def __init__(self, filesystems: frozenset[str] = LOCAL_FILESYSTEMS) -> None:
        self.sections = _says_what_runs()
        self.modules = Modules(filesystems) if windows_own() else None
        self.integrity = own_integrity()


class WindowsPeer:
    """See ``Peer``."""

    def __init__(self, process: Process, host: Host, is_connected: Callable[[], bool]) -> None:
        self.pid = process.pid
        self.uid = process.uid
        self._process = process
        self._host = host
        self.is_connected = is_connected
        self.look = f"{process.pid} {process.start_time}"

    def facts(self, *, patient: bool = False) -> PeerFacts:
        """See ``Peer.facts``. What it has loaded is milliseconds of asking: never in the event loop."""
        if not patient:
            raise NeedsThread
        path = self._path()
        try:
            before = os.stat(path)
            executable = FileFacts(path, openfile.file_key(before), filesystem_of(path))
            code = self._code(executable)
            after = os.stat(self._path())
        except OSError as error:
            raise PeerGone(f"its program {path} cannot be looked at: {error.strerror}") from None
        if self._process.has_ended():
            raise PeerGone("it has ended")
        return PeerFacts(
            pid=self.pid,
            uid=self.uid,
            namespaces=NAMESPACES,
            executable=executable,
            at_path=(after.st_dev, after.st_ino),
            holds_socket=True,
            inheritable=False,
            exec_id=ExecId(self._process.start_time, ()),
            seccomp_filters=0,
            tracer=-1 if self._process.is_traced() else 0,
            code=code,
            steady=openfile.file_key(after) == executable.key,
            integrity=self._process.integrity,
        )

    def hash_program(self, limit: int, pace: Pace, keys: Collection[bytes] = ()) -> Digest:
        """See ``Peer.hash_program``."""
        path = self._path()
        try:
            fd = openfile.open_unwritten(path)
        except OSError as error:
            raise PeerGone(f"its program {path} cannot be read while nobody writes it: {error.strerror}") from None
        try:
            if self._host.sections and not self._process.runs(msvcrt.get_osfhandle(fd)):
                raise PeerGone(f"what lies at {path} is not what it runs")
            found = openfile.digest(fd, path, limit, pace, keys)
            signed = publisher_of(msvcrt.get_osfhandle(fd), path)
            return msgspec.structs.replace(found, publisher=signed.subject, certificate=signed.certificate)
        finally:
            os.close(fd)

    def _path(self) -> str:
        return os.path.realpath(self._process.image_path())

    def _code(self, executable: FileFacts) -> Code:
        """Raises PeerGone. What has higher rights cannot be looked at: an entry must allow all that this may hide."""
        if self._host.modules is None:
            return Code(program=True)
        if self._process.is_open:
            return self._host.modules.code_of(self._process.handle(), executable.key)
        if self._process.integrity > self._host.integrity:
            return Code(program=True, in_memory=True)
        raise PeerGone("it does not let its own user look at what it has loaded")

    def open_library(self, file: MappedFile) -> openfile.WindowsFile | None:
        """See ``Peer.open_library``."""
        try:
            opened = openfile.WindowsFile(file.path)
        except (OSError, ValueError):
            return None
        if (opened.key.device, opened.key.inode) == (file.device[0], file.inode):
            return opened
        opened.close()
        return None

    def strict_facts(self) -> StrictFacts:
        """Strict mode looks at memory by /proc. Raises PeerGone: what cannot be looked at is not vouched for."""
        raise PeerGone("Windows has no counterpart of strict mode")

    def command_line(self) -> tuple[str, ...]:
        """See ``Peer.command_line``."""
        return self._process.command_line()

    def open_script(self, word: str) -> openfile.WindowsFile | None:
        """See ``Peer.open_script``. An absolute path only: Windows does not tell the working folder of another."""
        if not os.path.isabs(word):
            return None
        try:
            return openfile.WindowsFile(os.path.realpath(word))
        except (OSError, ValueError):
            return None

    def parent(self) -> Ancestor | None:
        """Windows remembers a parent's number, not the parent: nothing can be built on it."""
        return None

    def runs_same_file(self) -> bool | None:
        """See ``Peer.runs_same_file``: a process cannot replace its program, so only its end matters."""
        return None if self._process.has_ended() else True

    def runs_same_exec(self) -> bool | None:
        """The same."""
        return self.runs_same_file()

    def close(self) -> None:
        """Let go of the process."""
        self._process.close()


def _says_what_runs() -> bool:
    """Tried with this very process, whose program is known."""
    own = Process(os.getpid())
    try:
        fd = openfile.open_unwritten(os.path.realpath(own.image_path()))
    except OSError:
        return False
    try:
        return own.runs(msvcrt.get_osfhandle(fd)) is True
    finally:
        os.close(fd)
        own.close()
