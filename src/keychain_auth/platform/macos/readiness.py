"""What the event loop waits by, on a system without epoll: the selector that Python itself takes there (kqueue).

As ``linux.readiness``: connections are served as one turn by the selector, and the loop is told only what is its own.
Here every round of the loop waits once; the shortcuts that Linux takes were measured there.
"""

from __future__ import annotations

import asyncio
import selectors

from keychain_auth.platform.selector import ConnectionSelector

_READ = selectors.EVENT_READ


class Readiness(ConnectionSelector):
    """See ``base.Readiness``. Belongs to the one loop that ``new_loop`` makes, which closes it."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = selectors.DefaultSelector()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop that waits by this."""
        self._loop = asyncio.SelectorEventLoop(self)
        return self._loop

    def _watch(self, fd: int) -> None:
        key = self._keys.get(fd)
        wanted = (_READ if fd in self._callbacks else 0) | (key.events if key is not None else 0)
        watched = fd in self._selector.get_map()
        if not wanted:
            if watched:
                self._selector.unregister(fd)
        elif watched:
            self._selector.modify(fd, wanted)
        else:
            self._selector.register(fd, wanted)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve the connections that are ready; what else is ready is the result."""
        ready, events = [], []
        for found, mask in self._selector.select(timeout):
            if mask & _READ and (callback := self._callbacks.get(found.fd)) is not None:
                ready.append(callback)
            key = self._keys.get(found.fd)
            if key is not None and mask & key.events:
                events.append((key, mask & key.events))
        if ready:
            self._turn(ready)
        return events

    def close(self) -> None:
        """Watch nothing any more."""
        super().close()
        self._selector.close()
