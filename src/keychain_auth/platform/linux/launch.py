"""A process that is about to become a launched script: pinned, seized, stopped at the end of its exec, looked at.

The order of calls is that of the life of a ``Front``: ``facts`` and ``open_script`` while it waits, then, all in one
thread, ``seize``, ``wait_for_exec``, ``stopped_facts``, and ``let_go`` or ``kill``. ``identity.launch`` judges.

The process is pinned by a pidfd and by its /proc folder, both opened while it is known to live; ptrace(2) knows only
numbers, so after the seizing the folder must show this daemon as the tracer.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal

from keychain_auth.identity.facts import Code, ScriptFacts
from keychain_auth.identity.launch import FrontFacts, StoppedFacts
from keychain_auth.platform.base import Digest, PeerGone
from keychain_auth.platform.linux import filehash, ptrace
from keychain_auth.platform.linux.looks import Host, file_key
from keychain_auth.platform.linux.memory import is_sealed
from keychain_auth.platform.linux.openfile import LinuxFile
from keychain_auth.platform.linux.procfs import Process, open_files, path_of
from keychain_auth.platform.linux.syscalls import statx_descriptor
from keychain_auth.platform.linux.sysctl import SETTINGS, yama_scope
from keychain_auth.platform.posix.ownership import writable_by_others
from keychain_auth.policy.environment import forbidden_names

_ENVIRONMENT_BYTES = 8 * 1024 * 1024
_MOST_FILES = 65536
_CHILDREN = 1 << (signal.SIGCHLD - 1)


def forbidden_by(settings: str = SETTINGS) -> str:
    """Why this kernel lets no process of a user be traced, "" if it does. ``settings``: where the kernel's lie."""
    scope = yama_scope(settings)
    if scope is None or scope < 2:
        return ""
    return f"kernel.yama.ptrace_scope is {scope}: the kernel lets nobody look at a program before it starts"


class Front:
    """One process. ``pidfd`` is readable once it has ended."""

    def __init__(self, pid: int, host: Host) -> None:
        """Raises PeerGone."""
        self.pid = pid
        self._host = host
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError as error:
            raise PeerGone(f"the process has ended ({error.strerror})") from None
        try:
            self.process = Process(pid)
        except OSError:
            os.close(self.pidfd)
            raise PeerGone("the process has ended") from None
        if has_ended(self.pidfd):  # else the number was its own all the while
            self.close()
            raise PeerGone("the process has ended")

    def close(self) -> None:
        """See ``base.Front.close``."""
        self.process.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def share_pidfd(self) -> int:
        """Another descriptor of the pidfd, for who closes it."""
        return os.dup(self.pidfd)

    def facts(self) -> FrontFacts:
        """What it is now. Raises OSError when it is gone."""
        status = self.process.status()
        return FrontFacts(
            self.process.namespaces(),
            status.threads,
            status.tracer,
            status.seccomp_filters,
            bool(status.ignored & _CHILDREN),
        )

    def open_file(self, path: str) -> LinuxFile:
        """The file at ``path``, opened and not yet read; for a worker thread. Raises OSError."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY)
        about = statx_descriptor(fd)
        mount = self._host.mounts.mount(about.mount_id)
        facts = ScriptFacts(path, "", mount.filesystem, writable_by_others(path, os.geteuid()))
        return LinuxFile(fd, file_key(about), facts, nosuid=mount.nosuid)

    def open_script(self, number: int) -> tuple[int, tuple[int, int]]:
        """A readable descriptor of the sealed memory file that is its descriptor ``number``, and (device, inode).

        Raises OSError, and PeerGone if it is anything else.
        """
        path = f"fd/{number}"
        # A name in / of that kind could only be root's doing. So nothing is opened here that could wait for a server.
        if not os.readlink(path, dir_fd=self.process.folder).startswith("/memfd:"):
            raise PeerGone(f"its descriptor {number} is no memory file")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self.process.folder)
        if not is_sealed(fd):
            os.close(fd)
            raise PeerGone(f"its descriptor {number} is not sealed")
        about = os.fstat(fd)
        return fd, (about.st_dev, about.st_ino)

    def seize(self) -> None:
        """Trace it from now on, in this thread. Raises OSError, PeerGone."""
        ptrace.seize(self.pid)
        if has_ended(self.pidfd):
            raise PeerGone("the process has ended")

    def wait_for_exec(self, seconds: float) -> None:
        """Return when it stands before its first instruction. Raises PeerGone."""
        try:
            ptrace.wait_for_exec(self.pid, seconds)
        except ptrace.Ended as ended:
            raise PeerGone(f"it never started the interpreter: {ended}") from None

    def stopped_facts(self, script_fd: int, known: Digest) -> StoppedFacts:
        """What the exec made of it. ``known`` is the interpreter's digest; another file is not even opened, for it may
        lie where an opening waits for ever.

        Raises OSError, PeerGone.
        """
        process = self.process
        exec_id = process.exec_id()
        strays = self._strays()
        path, sha256, code = self._program(known)
        environment = process.read_all("environ", _ENVIRONMENT_BYTES)
        files = self._files()
        script = None
        with contextlib.suppress(OSError, PeerGone):
            script, _ = self.open_script(script_fd)
        if script is not None:
            os.close(script)
        return StoppedFacts(
            front=self.facts(),
            path=path,
            sha256=sha256,
            exec_id=exec_id,
            command_line=process.read_all("cmdline", _ENVIRONMENT_BYTES),
            forbidden=forbidden_names(environment),
            environment=environment,
            code=code,
            files=files,
            sealed=script is not None,
            # Twice: a connection that is accepted during one look is seen by the other.
            strays=tuple(strays | self._strays()),
            personality=int(process.read_all("personality", 64), 16),
            core_bytes=resource.prlimit(self.pid, resource.RLIMIT_CORE)[1],
            sockets=self._connections(),
        )

    def let_go(self) -> None:
        """Let the stopped process run. Raises OSError."""
        ptrace.detach(self.pid)

    def kill(self) -> None:
        """End it, if it has not ended by itself."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def _program(self, known: Digest) -> tuple[str, str, Code]:
        """Path and hash ("" if it is another file than the ``known`` one) of what runs, and what is mapped."""
        process = self.process
        fd = process.open_executable()
        try:
            about = statx_descriptor(fd)
            path = path_of(fd)
        finally:
            os.close(fd)
        if (about.device, about.inode) != (known.key.device, known.key.inode):
            return path, "", Code(False)
        mount = self._host.mounts.mount(about.mount_id)
        sha256 = known.sha256
        if not known.keep or file_key(about) != known.key:
            fd = process.open_executable_content()
            try:
                sha256 = filehash.digest(fd, about.size, nosuid=mount.nosuid).sha256
            finally:
                os.close(fd)
        return path, sha256, self._host.mappings.code_of(process.folder, mount, about.inode, path, patient=True)

    def _files(self) -> dict[int, tuple[int, int]]:
        """Number of each descriptor to (device, inode), without asking a filesystem's server."""
        found: dict[int, tuple[int, int]] = {}
        folder = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.process.folder)
        try:
            with os.scandir(folder) as numbers:
                for number in numbers:
                    fd = os.open(number.name, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
                    try:
                        about = statx_descriptor(fd)
                    finally:
                        os.close(fd)
                    found[int(number.name)] = about.device, about.inode
                    if len(found) > _MOST_FILES:
                        break
        finally:
            os.close(folder)
        return found

    def _strays(self) -> set[str]:
        """Which standard streams lead to this daemon, or are no streams."""
        found = set()
        for number in range(3):
            try:
                link = os.readlink(f"fd/{number}", dir_fd=self.process.folder)
            except FileNotFoundError:  # closed
                continue
            if link.startswith("anon_inode:"):
                found.add(f"{number} is no stream")
            elif link.startswith("socket:[") and self._leads_here(int(link[8:-1])):
                found.add(f"{number} is a connection to the daemon")
        return found

    def _connections(self) -> frozenset[int]:
        """The daemon's sockets, and those whose connections it has not accepted yet. A connection that is accepted
        meanwhile is among the ones or the others."""
        before = _own_sockets()
        described = (self._host.diagnosis.describe(socket) for socket in before)
        waiting = [inode for each in described if each is not None and each.listening for inode in each.waiting]
        return before.union(waiting, _own_sockets())

    def _leads_here(self, inode: int) -> bool:
        """Is the other end of the Unix socket ``inode`` in this daemon, or waiting to be accepted by it?"""
        diagnosis = self._host.diagnosis
        about = diagnosis.describe(inode)
        if about is None or not about.connected:
            return False
        ours = _own_sockets()
        if about.peer:
            return about.peer in ours
        described = (diagnosis.describe(socket) for socket in ours)
        return any(each is not None and inode in each.waiting for each in described)


def has_ended(pidfd: int) -> bool:
    """Has the process behind ``pidfd`` ended?"""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _own_sockets() -> frozenset[int]:
    """The inodes of this process's sockets."""
    return frozenset(int(link[8:-1]) for link in open_files(os.getpid()) if link.startswith("socket:["))
