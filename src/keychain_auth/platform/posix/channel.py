"""One accepted Unix connection, but for what one system alone can say of it: who sent a byte, and who connected."""

from __future__ import annotations

import contextlib
import socket


class SocketChannel:
    """``Channel`` but for ``receive``, ``peer`` and ``peer_credentials``."""

    __slots__ = ("_socket", "send")

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self.send = connection.send

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self._socket.fileno()

    def end_input(self) -> None:
        """shutdown(SHUT_RD). On Linux what lies in the queue can still be read, then comes the end; a later send(2) of
        the peer fails with EPIPE (unix_shutdown and unix_stream_sendmsg in net/unix/af_unix.c)."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def end_output(self) -> None:
        """shutdown(SHUT_WR); a peer that is gone already does not matter."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
