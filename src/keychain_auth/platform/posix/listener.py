"""A listening Unix socket, but for what one system alone knows of it: how it is bound, and what it accepts.

Contract: at the end only the socket that this object bound (device and inode) is removed, and the lock is let go after
that. The order of binding is that of ``endpoint``.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable

from keychain_auth.platform.posix import endpoint


class SocketListener:
    """``Listener`` but for ``accept``."""

    def __init__(self, path: str, lock: int, opened: Callable[[], socket.socket], *, ours: bool = True) -> None:
        """``lock``: the descriptor of ``endpoint.take_lock``, -1 for none; it is let go if ``opened`` fails.

        ``ours``: the socket is this daemon's to remove. Raises what ``opened`` raises, OSError.
        """
        self.path = path
        self._lock = lock
        try:
            self._socket = opened()
            about = os.stat(path, follow_symlinks=False)
        except BaseException:
            self._let_go()
            raise
        self._waiting = select.poll()
        self._waiting.register(self._socket, select.POLLIN)
        self._bound = (about.st_dev, about.st_ino)
        self._remove = ours

    def fileno(self) -> int:
        """The listening descriptor."""
        return self._socket.fileno()

    def may_have_more(self) -> bool:
        """See ``Listener.may_have_more``. A tenth of the price of an accept that fails."""
        return bool(self._waiting.poll(0))

    def share(self) -> tuple[int, bool]:
        """See ``Listener.share``: the socket listens for as long as somebody has the descriptor."""
        ours, self._remove = self._remove, False
        return os.dup(self._socket.fileno()), ours

    def close(self) -> None:
        """Stop listening; remove the socket if it is still ours; let the lock go."""
        self._socket.close()
        if self._remove:
            endpoint.unlink_own(self.path, self._bound)
        self._let_go()

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
