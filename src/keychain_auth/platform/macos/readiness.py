"""What the event loop waits by, on a system without epoll: the selector that Python itself takes there (kqueue).

As ``linux.readiness``: connections are served as one turn by the selector, and the loop is told only what is its own.
Here every round of the loop waits once; the shortcuts that Linux takes were measured there.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Readiness(selectors.BaseSelector):
    """See ``base.Readiness``. Belongs to the one loop that ``new_loop`` makes, which closes it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._keys: dict[int, selectors.SelectorKey] = {}  # the loop's own
        self._callbacks: dict[int, Callable[[], None]] = {}  # the connections'
        self._serve: Callable[[list[Callable[[], None]]], None] = _each
        self._loop: asyncio.AbstractEventLoop | None = None

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop that waits by this."""
        self._loop = asyncio.SelectorEventLoop(self)
        return self._loop

    def serve_by(self, serve: Callable[[list[Callable[[], None]]], None]) -> None:
        """See ``base.Readiness``."""
        self._serve = serve

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """See ``base.Readiness``."""
        self._callbacks[fd] = callback
        self._watch(fd)

    def remove(self, fd: int) -> None:
        """See ``base.Readiness``."""
        if self._callbacks.pop(fd, None) is not None:
            self._watch(fd)

    def _watch(self, fd: int) -> None:
        """One descriptor may be watched by both sides: a connection that sends a long answer."""
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

    def _turn(self, ready: list[Callable[[], None]]) -> None:
        try:
            self._serve(ready)
        except Exception as fault:  # as the loop treats a callback: reported, and the loop goes on
            if self._loop is None:
                raise
            self._loop.call_exception_handler({"message": "a turn failed", "exception": fault})

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See selectors.BaseSelector."""
        fd = _descriptor(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fd} is registered already")
        return self._put(selectors.SelectorKey(fileobj, fd, events, data))

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See selectors.BaseSelector."""
        return self._put(self._keys[_descriptor(fileobj)]._replace(events=events, data=data))

    def _put(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        self._keys[key.fd] = key
        self._watch(key.fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See selectors.BaseSelector."""
        key = self._keys.pop(_descriptor(fileobj))
        self._watch(key.fd)
        return key

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """See selectors.BaseSelector."""
        return self._keys[_descriptor(fileobj)]

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """See selectors.BaseSelector. By descriptor."""
        return self._keys

    def close(self) -> None:
        """Watch nothing any more."""
        self._selector.close()
        self._keys.clear()
        self._callbacks.clear()


def _descriptor(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


def _each(ready: list[Callable[[], None]]) -> None:
    for callback in ready:
        callback()
