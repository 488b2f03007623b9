"""From a connection to the process that made it, without a moment in which the pid could change hands.

SO_PEERPIDFD (Linux 6.5) returns a descriptor of the process that called connect(2). The order is: take that
descriptor, open /proc/PID, then see that the process still lives. If it does, its number was its own all the
while, so the folder is its folder.

ENOPROTOOPT means that the kernel is too old: then the pid of SO_PEERCRED is opened with pidfd_open(2), and that the
process did not begin after the connection was accepted is checked instead; that it holds the peer end is checked in
any case. EINVAL or ESRCH means that the peer is gone. The two must never be treated alike.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time

from keychain_auth.platform.base import PeerGone
from keychain_auth.platform.linux.procfs import Process

_SO_PEERPIDFD = 77


def open_peer(connection: socket.socket, pid: int) -> Process:
    """The process on the other end, pinned through its /proc folder. Raises PeerGone."""
    accepted = time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        pidfd, from_socket = _pidfd(connection, pid)
    except OSError as error:
        raise PeerGone(f"the process that connected is gone ({os.strerror(error.errno or 0)})") from None
    try:
        process = Process(pid)
    except OSError:
        os.close(pidfd)
        raise PeerGone("the process that connected is gone") from None
    try:
        if _ended(pidfd):
            raise PeerGone("the process that connected has ended")
        if not from_socket and _began_after(process, accepted):
            raise PeerGone("the pid that connected belongs to a younger process")
    except BaseException:
        process.close()
        raise
    finally:
        os.close(pidfd)
    return process


def has_peer_pidfd() -> bool:
    """Does this kernel know SO_PEERPIDFD?"""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            os.close(_peer_pidfd(ours))
        except OSError as error:
            return error.errno != errno.ENOPROTOOPT
        return True


def _pidfd(connection: socket.socket, pid: int) -> tuple[int, bool]:
    try:
        return _peer_pidfd(connection), True
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
    return os.pidfd_open(pid), False


def _peer_pidfd(connection: socket.socket) -> int:
    raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4)
    return int(struct.unpack("=i", raw)[0])


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)  # a pidfd is readable once the process has ended (pidfd_open(2))
    return bool(poll.poll(0))


def _began_after(process: Process, moment: float) -> bool:
    ticks = os.sysconf("SC_CLK_TCK")
    try:
        return process.exec_id().start_time > int(moment * ticks)
    except OSError:
        raise PeerGone("the process that connected is gone") from None
