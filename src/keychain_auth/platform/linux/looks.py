"""Looks at one process, whether it connected or stands behind one that did: its file, its script, its command line."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection

from keychain_auth.identity.facts import ExecId, FileFacts, FileKey, ScriptFacts
from keychain_auth.platform.base import Digest, Pace, PeerGone
from keychain_auth.platform.linux import filehash
from keychain_auth.platform.linux.descriptors import SocketDiagnosis
from keychain_auth.platform.linux.filesystem import UNKNOWN, Mount, MountTable, read_mounts
from keychain_auth.platform.linux.mappings import Mappings
from keychain_auth.platform.linux.openfile import LinuxFile
from keychain_auth.platform.linux.procfs import Process, path_of
from keychain_auth.platform.linux.reach import reaches
from keychain_auth.platform.linux.syscalls import Statx, open_path, open_regular, statx_descriptor, statx_link
from keychain_auth.platform.posix.ownership import writable_by_others


class Host:
    """What looks at all peers have in common: one netlink socket, one table of mounts, the libraries of the system.

    ``filesystems``: types whose answers are the kernel's own. ``mount_namespace``: the daemon's.
    """

    def __init__(self, filesystems: frozenset[str], mount_namespace: int) -> None:
        self.diagnosis = SocketDiagnosis()
        self.mounts = MountTable()
        self.mappings = Mappings(self.mounts, filesystems)
        self.mount_namespace = mount_namespace

    def close(self) -> None:
        """Close them."""
        self.diagnosis.close()
        self.mappings.close()
        self.mounts.close()


class LinuxProcess:
    """What can be seen of a pinned process."""

    __slots__ = ("_device", "_exec_id", "_file", "_host", "_own_mounts", "_process", "pid", "uid")

    def __init__(self, process: Process, pid: int, uid: int, host: Host) -> None:
        self.pid = pid
        self.uid = uid
        self._host = host
        self._process = process
        self._device, self._file = -1, -1  # the running file and its exec, from the first look on
        self._exec_id: ExecId | None = None
        self._own_mounts = False

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

    def _remember(self, executable: FileFacts, exec_id: ExecId) -> bool:
        """Keep what the first look found, for ``runs_same_file`` and ``runs_same_exec``. True if this is the first."""
        if self._file >= 0:
            return False
        self._device, self._file = executable.key.device, executable.key.inode
        self._exec_id = exec_id
        return True

    def command_line(self) -> tuple[str, ...]:
        """See ``Peer.command_line``."""
        try:
            return self._process.arguments()
        except OSError as error:
            raise gone(error) from None

    def hash_program(self, limit: int, pace: Pace, keys: Collection[bytes] = ()) -> Digest:
        """See ``Peer.hash_program``."""
        try:
            fd = self._process.open_executable_content()
        except OSError as error:
            raise gone(error) from None
        try:
            nosuid = self._mount(statx_descriptor(fd).mount_id).nosuid
            return filehash.digest(fd, limit, pace, nosuid=nosuid, keys=keys)
        finally:
            os.close(fd)

    def open_script(self, word: str) -> LinuxFile | None:
        """See ``Peer.open_script``: the word is resolved as the interpreter did, from its working directory.

        What the process's own user could not have opened is not there.
        """
        try:
            folder = self._process.open_working_folder()
            gids = self._process.status().file_gids if self.uid != os.geteuid() else None
        except OSError as error:
            raise gone(error) from None
        try:
            if gids is not None and not reaches(os.fsencode(word), folder, self.uid, gids):
                return None
            fd = open_regular(os.fsencode(word), folder=folder)
        except (OSError, ValueError):
            return None
        finally:
            os.close(folder)
        return self._opened(fd)

    def _opened(self, fd: int, wanted: tuple[tuple[int, int], int] | None = None) -> LinuxFile | None:
        """The file ``fd``, which is closed if it is not a regular one at its own path, or not the ``wanted`` one."""
        file = None
        try:
            file = self._looked_at(fd, wanted)
            return file
        finally:
            if file is None:
                os.close(fd)

    def _looked_at(self, fd: int, wanted: tuple[tuple[int, int], int] | None) -> LinuxFile | None:
        about = statx_descriptor(fd)
        mount = self._mount(about.mount_id)
        if not stat.S_ISREG(about.mode) or wanted not in (None, (mount.device, about.inode)):
            return None
        path = path_of(fd)
        if place_of(path, patient=True) != (about.device, about.inode):
            return None
        facts = ScriptFacts(
            path=path,
            sha256="",
            filesystem=mount.filesystem,
            writable_by_others=writable_by_others(path, self.uid),
        )
        return LinuxFile(fd, file_key(about), facts, nosuid=mount.nosuid)

    def _executable(self) -> tuple[FileFacts, Mount]:
        """The file that runs, and the mount that it lies on.

        Its name is asked for by itself, so after an exec in between it does not fit. That is seen: what stands there is
        compared with the file (``judge``), and both are asked for once more at the end (``_still_runs``).
        """
        about = statx_link(self._process.folder, b"exe")
        # The text of the link is a name to look entries up by. It is never opened: "x (deleted)" is a legal name.
        path = self._process.executable_path()
        mount = self._mount(about.mount_id)
        return FileFacts(path, file_key(about), mount.filesystem), mount

    def _still_runs(self, file: FileFacts) -> bool:
        """Does it run what ``_executable`` found, by the same name? The filesystem is the same one if the device is."""
        same = file_key(statx_link(self._process.folder, b"exe")) == file.key
        return same and self._process.executable_path() == file.path

    def _mount(self, mount_id: int) -> Mount:
        """The daemon's mount, or one of the process's own: its mountinfo is the kernel's word too."""
        mount = self._host.mounts.mount(mount_id)
        if mount is not UNKNOWN or not self._own_mounts:
            return mount
        fd = self._process.open_mountinfo()
        try:
            return read_mounts(fd).get(mount_id, UNKNOWN)
        finally:
            os.close(fd)


def file_key(about: Statx) -> FileKey:
    """The version of a file that ``about`` describes."""
    return FileKey(about.device, about.inode, about.size, about.mtime_ns, about.ctime_ns)


def place_of(path: str, patient: bool) -> tuple[int, int] | None:
    """(device, inode) of what stands at ``path`` in the daemon's own view, None if nothing does.

    In the event loop only the dentry cache is asked: a FUSE server mounted over a folder on the way must not be able to
    hold the daemon. Raises BlockingIOError when that is not enough.
    """
    try:
        fd = open_path(os.fsencode(path), cached=not patient)
    except BlockingIOError:
        raise
    except (OSError, ValueError):
        return None
    try:
        about = statx_descriptor(fd)
    finally:
        os.close(fd)
    return about.device, about.inode


def gone(error: OSError) -> PeerGone:
    if error.errno in (errno.EACCES, errno.EPERM):
        return PeerGone("it does not let its own user look at it (is it setuid, or made itself non-dumpable?)")
    if error.errno == errno.ENOENT:
        return PeerGone("it has ended, or its socket belongs to another network namespace")
    return PeerGone(f"it cannot be looked at: {os.strerror(error.errno or 0)}")
