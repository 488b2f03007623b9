"""The process on the other end of a Unix connection: every fact that identity needs, in one look.

A look costs 0.1 to 0.2 ms. It is repeated after anything that took time (hashing, a worker thread), and ``attest``
compares the two.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from keychain_auth.identity.facts import ExecId, FileFacts, FileKey, PeerFacts, ScriptFacts
from keychain_auth.platform.base import Digest, NeedsThread, Pace, PeerGone
from keychain_auth.platform.linux import filehash
from keychain_auth.platform.linux.descriptors import SocketDiagnosis, TooManyDescriptors, holding
from keychain_auth.platform.linux.filesystem import MountTable
from keychain_auth.platform.linux.peercred import open_peer
from keychain_auth.platform.linux.script import LinuxScript
from keychain_auth.platform.linux.syscalls import Statx, open_cached, statx_descriptor

# A look in the event loop may take a few hundred microseconds; what exceeds these goes to a thread.
_FEW_DESCRIPTORS = 256
_MOST_DESCRIPTORS = 65536
_CACHE_ONLY_ERRORS = (errno.EAGAIN, errno.ENOSYS, errno.EINVAL)


class Host:
    """What looks at all peers have in common: one netlink socket, one table of mounts."""

    def __init__(self) -> None:
        self.diagnosis = SocketDiagnosis()
        self.mounts = MountTable()

    def close(self) -> None:
        """Close both."""
        self.diagnosis.close()
        self.mounts.close()


class LinuxPeer:
    """See ``Peer``."""

    __slots__ = ("_device", "_exec_id", "_file", "_host", "_inode", "_process", "pid", "uid")

    def __init__(self, connection: socket.socket, pid: int, uid: int, host: Host, inode: int) -> None:
        self.pid = pid
        self.uid = uid
        self._host = host
        self._inode = inode
        self._process = open_peer(connection, pid)
        self._device, self._file = -1, -1  # the running file and its exec, from the first look on
        self._exec_id: ExecId | None = None

    def close(self) -> None:
        """Let go of the process."""
        self._process.close()

    def runs_same_file(self) -> bool | None:
        """See ``Peer.runs_same_file``. One stat(2), about a microsecond.

        It may ask the server of a FUSE mount only if the verified program itself moved there by an exec.
        """
        try:
            about = os.stat("exe", dir_fd=self._process.folder)
        except OSError:
            return None  # the memory of an ended process, and with it ``exe``, is gone
        return about.st_ino == self._file and about.st_dev == self._device

    def runs_same_exec(self) -> bool | None:
        """See ``Peer.runs_same_exec``. About 10 µs."""
        try:
            return self.runs_same_file() and self._process.exec_id() == self._exec_id
        except OSError:
            return None

    def facts(self, *, patient: bool = False) -> PeerFacts:
        """See ``Peer.facts``."""
        process = self._process
        try:
            exec_id = process.exec_id()
            # The file before and after the descriptors: a program that was exec'd in between holds what it inherited,
            # and start time and layout alone would not show it (both survive an exec without address randomisation).
            executable = self._executable()
            peer_inode = self._host.diagnosis.peer_inode(self._inode)
            most = _MOST_DESCRIPTORS if patient else _FEW_DESCRIPTORS
            holds, inheritable = holding(process.folder, peer_inode, most) if peer_inode else (False, False)
            if self._file < 0:
                self._device, self._file = executable.key.device, executable.key.inode
                self._exec_id = exec_id
            namespaces = process.namespaces()
            at_path = _at_path(executable.path, patient)
            return PeerFacts(
                pid=self.pid,
                uid=self.uid,
                namespaces=namespaces,
                executable=executable,
                at_path=at_path,
                holds_socket=holds,
                inheritable=inheritable,
                exec_id=exec_id,
                seccomp_filters=process.seccomp_filters(),
                steady=self._executable() == executable and process.exec_id() == exec_id,
            )
        except TooManyDescriptors:
            if patient:
                raise PeerGone(f"it holds more than {most} descriptors") from None
            raise NeedsThread from None
        except BlockingIOError:
            raise NeedsThread from None
        except OSError as error:
            raise _gone(error) from None

    def command_line(self) -> tuple[str, ...]:
        """See ``Peer.command_line``."""
        try:
            return self._process.arguments()
        except OSError as error:
            raise _gone(error) from None

    def hash_program(self, limit: int, pace: Pace) -> Digest:
        """See ``Peer.hash_program``."""
        try:
            fd = self._process.open_executable_content()
        except OSError as error:
            raise _gone(error) from None
        try:
            return filehash.digest(fd, limit, pace)
        finally:
            os.close(fd)

    def open_script(self, word: str) -> LinuxScript | None:
        """See ``Peer.open_script``: the word is resolved as the interpreter did, from its working directory."""
        try:
            folder = self._process.open_working_folder()
        except OSError as error:
            raise _gone(error) from None
        try:
            # O_NONBLOCK: a FIFO of that name must not hold the thread.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            fd = os.open(os.fsencode(word), flags, dir_fd=folder)
        except (OSError, ValueError):
            return None
        finally:
            os.close(folder)
        script = None
        try:
            script = self._script(fd)
            return script
        finally:
            if script is None:
                os.close(fd)

    def _script(self, fd: int) -> LinuxScript | None:
        about = statx_descriptor(fd)
        if not stat.S_ISREG(about.mode):
            return None
        path = os.readlink(f"/proc/self/fd/{fd}")
        if _at_path(path, patient=True) != (about.device, about.inode):
            return None
        facts = ScriptFacts(
            path=path,
            sha256="",
            filesystem=self._host.mounts.filesystem_of(about.mount_id),
            writable_by_others=writable_by_others(path, self.uid),
        )
        return LinuxScript(fd, file_key(about), facts)

    def _executable(self) -> FileFacts:
        fd = self._process.open_executable()
        try:
            about = statx_descriptor(fd)
            # The text of the link is a name to look entries up by. It is never opened: "x (deleted)" is a legal name.
            path = os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        return FileFacts(path, file_key(about), self._host.mounts.filesystem_of(about.mount_id))


def file_key(about: Statx) -> FileKey:
    """The version of a file that ``about`` describes."""
    return FileKey(about.device, about.inode, about.size, about.mtime_ns, about.ctime_ns)


def _at_path(path: str, patient: bool) -> tuple[int, int] | None:
    """(device, inode) of what stands at ``path`` in the daemon's own view, None if nothing does.

    In the event loop only the dentry cache is asked (RESOLVE_CACHED): a FUSE server mounted over a folder on the way
    must not be able to hold the daemon. Raises BlockingIOError when that is not enough.
    """
    try:
        try:
            fd = open_cached(os.fsencode(path))
        except OSError as error:
            if error.errno not in _CACHE_ONLY_ERRORS:
                raise
            if not patient and error.errno == errno.EAGAIN:
                raise
            fd = os.open(os.fsencode(path), os.O_PATH | os.O_CLOEXEC)
    except BlockingIOError:
        raise
    except (OSError, ValueError):
        return None
    try:
        about = statx_descriptor(fd)
    finally:
        os.close(fd)
    return about.device, about.inode


def writable_by_others(path: str, uid: int) -> str:
    """The first of the file and its folders that somebody other than root and ``uid`` can change, or "".

    A sticky folder (/tmp) lets nobody rename or remove what belongs to another (unlink(2)).
    """
    place = path
    while True:
        with contextlib.suppress(FileNotFoundError):
            about = os.stat(place, follow_symlinks=False)
            sticky = stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_ISVTX
            if about.st_uid not in (0, uid) or (about.st_mode & 0o022 and not sticky):
                return place
        if place == "/":
            return ""
        place = os.path.dirname(place)


def _gone(error: OSError) -> PeerGone:
    if error.errno in (errno.EACCES, errno.EPERM):
        return PeerGone("it does not let its own user look at it (is it setuid, or made itself non-dumpable?)")
    if error.errno == errno.ENOENT:
        return PeerGone("it has ended, or its socket belongs to another network namespace")
    return PeerGone(f"it cannot be looked at: {os.strerror(error.errno or 0)}")
