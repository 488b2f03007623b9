"""Which connections have something to read: asked once for many, instead of once for each.

Why not ``loop.add_reader`` for each connection: the event loop makes and runs a handle for each ready descriptor, about
4 µs, as much as receiving and sending together. An epoll descriptor is itself readable while one of its own is
(epoll(7)), so the loop watches only this one, and one turn of the loop serves all that are ready.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

_AT_ONCE = 64


class Readiness:
    """See ``base.Readiness``. Level-triggered: what a callback leaves unread is reported again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Callable[[Callable[[], None]], None]) -> None:
        self._loop = loop
        self._epoll = select.epoll(_AT_ONCE)
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), turn, self._serve)

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ``fd`` can be read. A descriptor is added once."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Watch ``fd`` no more; to be called before it is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Watch nothing any more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _serve(self) -> None:
        for fd, _ in self._epoll.poll(0, _AT_ONCE):
            callback = self._callbacks.get(fd)
            if callback is not None:  # else a callback before it in this round closed it
                callback()
