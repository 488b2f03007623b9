"""The process on the other end of a Unix connection: every fact that identity needs, in one look.

A look costs 0.1 to 0.2 ms. It is repeated after anything that took time (hashing, a worker thread), and ``attest``
compares the two.
"""

from __future__ import annotations

import os
import socket

from keychain_auth.identity.facts import MappedFile, PeerFacts, StrictFacts
from keychain_auth.platform.base import NeedsThread, PeerGone
from keychain_auth.platform.linux import strict
from keychain_auth.platform.linux.descriptors import TooManyDescriptors, holding
from keychain_auth.platform.linux.looks import Host, LinuxProcess, gone, place_of
from keychain_auth.platform.linux.mappings import open_mapped
from keychain_auth.platform.linux.openfile import LinuxFile
from keychain_auth.platform.linux.peercred import open_peer
from keychain_auth.platform.linux.pinned_parent import LinuxAncestor, parent_of
from keychain_auth.platform.linux.procfs import exec_id_now

# A look in the event loop may take a few hundred microseconds; what exceeds these goes to a thread.
_FEW_DESCRIPTORS = 256
_MOST_DESCRIPTORS = 65536


class LinuxPeer(LinuxProcess):
    """See ``Peer``."""

    __slots__ = ("_inode", "look")

    def __init__(self, connection: socket.socket, pid: int, uid: int, host: Host, inode: int) -> None:
        super().__init__(open_peer(connection, pid), pid, uid, host)
        self._inode = inode
        self.look = ""

    def parent(self) -> LinuxAncestor | None:
        """See ``Peer.parent``."""
        return parent_of(self._process, self._host)

    def is_connected(self) -> bool:
        """See ``Peer.is_connected``."""
        try:
            return self._host.diagnosis.peer_inode(self._inode) != 0
        except OSError:
            return True

    def facts(self, *, patient: bool = False) -> PeerFacts:
        """See ``Peer.facts``."""
        process = self._process
        stat = -1
        try:
            stat = process.open_stat()
            exec_id = exec_id_now(stat)
            # The file before and after the descriptors: a program that was exec'd in between holds what it inherited,
            # and start time and layout alone would not show it (both survive an exec without address randomisation).
            namespaces = process.namespaces()
            self._own_mounts = namespaces.mount != self._host.mount_namespace
            executable, mount = self._executable()
            peer_inode = self._host.diagnosis.peer_inode(self._inode)
            most = _MOST_DESCRIPTORS if patient else _FEW_DESCRIPTORS
            holds, inheritable = holding(process.folder, peer_inode, most) if peer_inode else (False, False)
            if self._remember(executable, exec_id):
                # Two descriptors of one /proc/PID folder show one inode for as long as both are open, and an inode
                # belongs to one process for ever (fs/proc/base.c, proc_pid_make_inode).
                folder = os.fstat(process.folder).st_ino
                self.look = f"{folder} {self._device} {self._file} {exec_id.start_time} {exec_id.layout[0]}"
            at_path = place_of(executable.path, patient)
            status = process.status()
            code = self._host.mappings.code_of(
                process.folder, mount, executable.key.inode, executable.path, patient=patient
            )
            return PeerFacts(
                pid=self.pid,
                uid=self.uid,
                namespaces=namespaces,
                executable=executable,
                at_path=at_path,
                holds_socket=holds,
                inheritable=inheritable,
                exec_id=exec_id,
                seccomp_filters=status.seccomp_filters,
                tracer=status.tracer,
                code=code,
                guard=process.guard(status.gids),
                steady=self._still_runs(executable) and exec_id_now(stat) == exec_id,
                sockets=(self._inode, peer_inode),
            )
        except TooManyDescriptors:
            if patient:
                raise PeerGone(f"it holds more than {most} descriptors") from None
            raise NeedsThread from None
        except BlockingIOError:
            raise NeedsThread from None
        except OSError as error:
            raise gone(error) from None
        finally:
            if stat >= 0:
                os.close(stat)

    def strict_facts(self) -> StrictFacts:
        """See ``Peer.strict_facts``."""
        folder = self._process.folder
        try:
            peer_inode = self._host.diagnosis.peer_inode(self._inode)
            return StrictFacts(
                patched=strict.patched_file(folder),
                traced=strict.is_traced(folder),
                holders=strict.holders(peer_inode, self.pid),
            )
        except OSError as error:
            raise gone(error) from None

    def open_library(self, file: MappedFile) -> LinuxFile | None:
        """See ``Peer.open_library``."""
        try:
            return self._opened(open_mapped(file), (file.device, file.inode))
        except OSError:
            return None
