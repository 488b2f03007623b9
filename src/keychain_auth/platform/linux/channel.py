"""One accepted Unix connection: bytes, and with every byte the pid that sent it.

SO_PASSCRED is set on the listener and inherited by what it accepts (net/unix/af_unix.c copies the flag), so bytes
that were sent before accept carry credentials too. The kernel never joins bytes of two senders in one
recvmsg (unix_skb_scm_eq). The ancillary buffer has room for exactly one credentials message: passed
descriptors do not fit, are dropped by the kernel, and show as MSG_CTRUNC.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from keychain_auth.platform.linux.looks import Host
from keychain_auth.platform.linux.peer import LinuxPeer
from keychain_auth.platform.posix.channel import SocketChannel

_READ_BYTES = 65536
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_ANCILLARY_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size)
# Plain numbers: an operation on an IntFlag makes a new object each time, which costs more than the receive.
_CMSG_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_CTRUNC = int(socket.MSG_CTRUNC)
_SOL_SOCKET = int(socket.SOL_SOCKET)
_SO_PEERCRED = int(socket.SO_PEERCRED)
_SCM_CREDENTIALS = int(socket.SCM_CREDENTIALS)
_SO_PASSRIGHTS = 83  # Linux 6.16: 0 refuses passed descriptors at the sender


class UnixChannel(SocketChannel):
    """The daemon's end of one connection; see ``Channel``."""

    __slots__ = ("_ancillary", "_credentials", "_host", "_recvmsg", "_sender")

    def __init__(self, connection: socket.socket, host: Host) -> None:
        super().__init__(connection)
        self._host = host
        self._recvmsg = connection.recvmsg
        self._ancillary: list[tuple[int, int, bytes]] = []
        self._sender: int | None = None
        self._credentials: tuple[int, int] | None = None

    def receive(self) -> tuple[bytes, int | None]:
        """The next bytes of one sender. See ``Channel.receive``."""
        data, ancillary, flags, _ = self._recvmsg(_READ_BYTES, _ANCILLARY_BYTES, _CMSG_CLOEXEC)
        if flags & _CTRUNC:
            return data, None
        if ancillary != self._ancillary:  # nearly always the same process sends, and it is compared whole
            self._ancillary, self._sender = ancillary, _sender(ancillary)
        return data, self._sender

    def peer_credentials(self) -> tuple[int, int]:
        """(pid, uid) from SO_PEERCRED: taken by the kernel when the peer connected, and never other ones."""
        if self._credentials is None:
            raw = self._socket.getsockopt(_SOL_SOCKET, _SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, _ = _CREDENTIALS.unpack(raw)
            self._credentials = pid, uid
        return self._credentials

    def peer(self) -> LinuxPeer:
        """The process that connected. Raises PeerGone."""
        pid, uid = self.peer_credentials()
        return LinuxPeer(self._socket, pid, uid, self._host, os.fstat(self._socket.fileno()).st_ino)


def refuse_descriptors(end: socket.socket) -> None:
    """Whoever sends a descriptor to ``end``, or to what it accepts from now on, is told that it may not: the flag is
    inherited as SO_PASSCRED is. Kernels before 6.16 drop descriptors on arrival instead."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def has_passrights() -> bool:
    """Does this kernel know SO_PASSRIGHTS?"""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            ours.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
        except OSError:
            return False
        return True


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """The pid in a lone credentials message. SO_PEERCRED shows effective ids, this real ones: only pids compare."""
    if len(ancillary) != 1:
        return None
    level, kind, content = ancillary[0]
    if level != _SOL_SOCKET or kind != _SCM_CREDENTIALS:
        return None
    pid: int = _CREDENTIALS.unpack(content)[0]
    return pid
