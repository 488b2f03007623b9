"""The least that a server in Python costs: it receives with credentials and sends, and does nothing else.

The floor under the daemon, as ``echo.c`` is the floor under any server: the same socket with SO_PASSCRED, the same
bytes, one epoll descriptor, one recvmsg and one send for each request. Nobody is looked at, nothing is decoded, looked
up, decrypted or put on record.

Usage: bare.py SOCKET ANSWER-FILE      says "listening" on stderr
"""

from __future__ import annotations

import select
import socket
import sys

_READ_BYTES = 65536
_ANCILLARY_BYTES = socket.CMSG_SPACE(12)  # struct ucred
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_AT_ONCE = 64


def main() -> None:
    """See above."""
    with open(sys.argv[2], "rb") as file:
        answer = file.read()
    listener = socket.socket(socket.AF_UNIX)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    listener.bind(sys.argv[1])
    listener.listen(1024)
    waiting = select.epoll()
    waiting.register(listener, select.EPOLLIN)
    connections = {}
    print("listening", file=sys.stderr, flush=True)
    while True:
        for fd, _ in waiting.poll(-1, _AT_ONCE):
            if (connection := connections.get(fd)) is None:
                connection, _ = listener.accept()
                connections[connection.fileno()] = connection
                waiting.register(connection, select.EPOLLIN)
                continue
            try:
                data, _, _, _ = connection.recvmsg(_READ_BYTES, _ANCILLARY_BYTES, _CLOEXEC)
                if data:
                    connection.send(answer)
            except OSError:  # the client is gone
                data = b""
            if not data:
                connections.pop(fd).close()


main()
