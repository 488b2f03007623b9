"""One accepted Unix connection of macOS: bytes, and the process that used the other end last.

macOS attaches no sender to data, so after each receive the kernel is asked who used the other end last
(``audit_token``): another process, or another program in the same one, is no sender that anybody knows (None). A
process that writes between the receive and the question, after another one did, hides that one; it must hold the
descriptor for that, which close-on-exec and the look at its holders make rare, and nothing here makes impossible.

Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

import contextlib
import socket

from keychain_auth.platform.base import PeerGone
from keychain_auth.platform.macos.audit_token import Token, peer_token, peer_uid
from keychain_auth.platform.macos.peer import MacosPeer
from keychain_auth.platform.posix.channel import SocketChannel

_READ_BYTES = 65536


class MacosChannel(SocketChannel):
    """The daemon's end of one connection; see ``Channel``."""

    __slots__ = ("_first",)

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._first: Token | None = None
        with contextlib.suppress(OSError):  # gone already: then there is nobody to be known
            self._first = peer_token(connection)

    def receive(self) -> tuple[bytes, int | None]:
        """See ``Channel.receive``. A passed descriptor is dropped by the kernel: recv(2) has no room for one."""
        data = self._socket.recv(_READ_BYTES)
        if not data:
            return data, None
        return data, self._sender()

    def _sender(self) -> int | None:
        first = self._first
        try:
            now = peer_token(self._socket)
        except OSError:
            return None
        return first.pid if first is not None and now.raw == first.raw else None

    def peer_credentials(self) -> tuple[int, int]:
        """(pid, uid): the process at the first look, the user of connect(2)."""
        uid = peer_uid(self._socket)
        return (0 if self._first is None else self._first.pid), uid

    def peer(self) -> MacosPeer:
        """The process that connected. Raises PeerGone."""
        if self._first is None:
            raise PeerGone("the process that connected is gone")
        try:
            return MacosPeer(self._socket, self._first, peer_uid(self._socket))
        except OSError:
            raise PeerGone("the process that connected is gone") from None
