"""Does the process that connected still hold its end, and would that end survive an exec?

The rule is the whole defence against "connect, write, exec the trusted program": the kernel names the process
by its pid, and a pid keeps its number over an exec. A close-on-exec descriptor does not. So if the process that runs
now has the peer end open, and every descriptor of it is close-on-exec, then the program that runs now opened it.

Facts: NETLINK_SOCK_DIAG with UDIAG_SHOW_PEER gives the inode of the other end (linux/unix_diag.h, sock_diag(7));
/proc/PID/fd/N is a link "socket:[inode]"; /proc/PID/fdinfo/N has the octal open flags, O_CLOEXEC among them.

What this does not promise: that no other process holds the same end. Its messages would carry its own pid, which every
message is checked for; its reading what was answered is not noticed. Nor that a program does not itself mark what it
inherited close-on-exec, as Node does at its start, or takes descriptors out of messages: the rule is empty for those.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
from typing import NamedTuple

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_UDIAG_SHOW_PEER = 4
_UNIX_DIAG_PEER = 2
_UDIAG_SHOW_ICONS = 8
_UNIX_DIAG_ICONS = 3
_ESTABLISHED, _LISTENS = 1, 10

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBHIIIII")  # unix_diag_req: family, protocol, pad, states, inode, show, cookie
_MESSAGE_BYTES = 16  # unix_diag_msg, before the attributes
_ATTRIBUTE = struct.Struct("=HH")
_ANY_COOKIE = 0xFFFFFFFF


class UnixSocket(NamedTuple):
    """``peer`` is the inode of the other end, 0 if nobody has accepted it yet or it is closed. ``waiting``: of one that
    listens, the inodes of those whose connections nobody has accepted yet."""

    connected: bool
    listening: bool
    peer: int
    waiting: tuple[int, ...]


class TooManyDescriptors(Exception):
    """The process holds more descriptors than may be looked at here."""


class SocketDiagnosis:
    """Asks the kernel which socket is the other end of one of ours. One netlink socket for the daemon's life.

    Raises OSError at creation when the kernel has no netlink diagnosis at all.
    """

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        self._netlink.connect((0, 0))
        self._sequence = 0
        self._lock = threading.Lock()  # looks that take long are made from worker threads

    def close(self) -> None:
        """Close the netlink socket."""
        self._netlink.close()

    def describe(self, inode: int) -> UnixSocket | None:
        """What the Unix socket ``inode`` is; None if it is no Unix socket of this network namespace."""
        try:
            answer = self._asked(inode, _UDIAG_SHOW_PEER | _UDIAG_SHOW_ICONS)
        except FileNotFoundError:
            return None
        state = answer[_HEADER.size + 2]
        waiting = _attribute(answer, _UNIX_DIAG_ICONS)
        return UnixSocket(
            state == _ESTABLISHED,
            state == _LISTENS,
            _number(_attribute(answer, _UNIX_DIAG_PEER)),
            struct.unpack(f"={len(waiting) // 4}I", waiting),
        )

    def peer_inode(self, inode: int) -> int:
        """The inode of the socket connected to our socket ``inode``; 0 if the peer is closed.

        Raises OSError: ENOENT when our socket lives in another network namespace (the client's decides that), or the
        kernel was built without unix_diag.
        """
        return _number(_attribute(self._asked(inode, _UDIAG_SHOW_PEER), _UNIX_DIAG_PEER))

    def _asked(self, inode: int, show: int) -> bytes:
        """The answer about the socket ``inode``. Raises OSError."""
        request = _REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, show, _ANY_COOKIE, _ANY_COOKIE)
        with self._lock:
            answer = self._ask(request)
        length, kind, *_ = _HEADER.unpack_from(answer)
        if kind == _NLMSG_ERROR:
            code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
            raise OSError(code, os.strerror(code))
        return answer[:length]

    def _ask(self, request: bytes) -> bytes:
        self._sequence = self._sequence % 0x7FFFFFFF + 1
        length = _HEADER.size + len(request)
        header = _HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._sequence, 0)
        self._netlink.send(header + request)
        while True:
            answer = self._netlink.recv(32768)
            if _HEADER.unpack_from(answer)[3] == self._sequence:
                return answer


def _attribute(answer: bytes, wanted: int) -> bytes:
    position = _HEADER.size + _MESSAGE_BYTES
    while position + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, position)
        if kind == wanted:
            return answer[position + _ATTRIBUTE.size : position + length]
        position += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return b""


def _number(attribute: bytes) -> int:
    return int.from_bytes(attribute, sys.byteorder)


def holding(process_folder: int, inode: int, most: int) -> tuple[bool, bool]:
    """(holds, inheritable) of the process behind the /proc folder, for the socket ``inode``.

    Every descriptor is looked at: one inheritable copy is enough to carry the connection over an exec.
    Raises TooManyDescriptors beyond ``most``, OSError when the process is gone.
    """
    wanted = f"socket:[{inode}]"
    holds = inheritable = False
    folder = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process_folder)
    try:
        with os.scandir(folder) as numbers:
            for count, number in enumerate(numbers):
                if count >= most:
                    raise TooManyDescriptors
                name = number.name
                try:
                    if os.readlink(name, dir_fd=folder) == wanted:
                        holds = True
                        inheritable = inheritable or not _close_on_exec(process_folder, name)
                except FileNotFoundError:
                    continue  # closed between the listing and the look
    finally:
        os.close(folder)
    return holds, inheritable


def _close_on_exec(process_folder: int, number: str) -> bool:
    fd = os.open(f"fdinfo/{number}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process_folder)
    try:
        fields = os.read(fd, 4096)
    finally:
        os.close(fd)
    at = fields.find(b"flags:")  # only numbers stand before it (proc_pid_fdinfo(5))
    if at < 0:
        raise OSError(errno.EPROTO, "fdinfo without flags")
    return bool(int(fields[at + 6 : fields.index(b"\n", at)], 8) & os.O_CLOEXEC)
