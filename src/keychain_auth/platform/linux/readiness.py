"""What the event loop waits by, with a short way for the connections.

Why not ``loop.add_reader`` for each connection: for each ready descriptor the event loop makes, queues and runs a
handle, about 4 µs, as much as receiving and sending together. Here the selector that the loop waits by (a public part
of asyncio) serves the connections itself, all that are ready as one turn, and hands the loop only what is its own:
accepts, worker threads, writers. A second descriptor for the connections, itself watched by the loop, costs a system
call and a handle for each turn.

Level-triggered: what is left unread is reported again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import selectors
from collections.abc import Callable, Mapping
from typing import Any

_AT_ONCE = 64
# Turns before the loop looks at its own work again, if it has no event of its own: a connection that is answered asks
# again at once, and the loop's round costs as much as half a request.
_TURNS = 4

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Readiness(selectors.BaseSelector):
    """See ``base.Readiness``. Belongs to the one loop that ``new_loop`` makes, which closes it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._masks: dict[int, int] = {}  # what epoll watches
        self._keys: dict[int, selectors.SelectorKey] = {}  # the loop's own
        self._callbacks: dict[int, Callable[[], None]] = {}  # the connections'
        self._alone: dict[int, Callable[[], None]] = {}  # of these, what the loop does not watch too
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
        callback, key = self._callbacks.get(fd), self._keys.get(fd)
        wanted = _IN if callback is not None else 0
        if key is not None:
            wanted |= (_IN if key.events & _READ else 0) | (_OUT if key.events & _WRITE else 0)
        if callback is not None and key is None:
            self._alone[fd] = callback
        else:
            self._alone.pop(fd, None)
        watched = self._masks.get(fd, 0)
        if not wanted:
            self._masks.pop(fd, None)
            if watched:
                with contextlib.suppress(OSError):  # closed already, and with it forgotten by the kernel
                    self._epoll.unregister(fd)
            return
        if not watched:
            self._epoll.register(fd, wanted)
        elif wanted != watched:
            self._epoll.modify(fd, wanted)
        self._masks[fd] = wanted

    # --- the loop's side (selectors.BaseSelector) -----------------------------------------------

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve the connections that are ready; what else is ready is the result."""
        # epoll_wait(2) counts milliseconds: rounded down, a timer of the loop would be waited for busily.
        wait = -1.0 if timeout is None else math.ceil(max(timeout, 0.0) * 1e3) * 1e-3
        events: list[tuple[selectors.SelectorKey, int]] = []
        keys, callbacks, alone = self._keys, self._callbacks, self._alone
        for _ in range(_TURNS):
            ready = []
            for fd, mask in self._epoll.poll(wait, _AT_ONCE):
                if mask == _IN and (callback := alone.get(fd)) is not None:  # nearly always
                    ready.append(callback)
                    continue
                if mask != _OUT and (callback := callbacks.get(fd)) is not None:
                    ready.append(callback)
                if (key := keys.get(fd)) is not None:
                    own = (_WRITE if mask & ~_IN else 0) | (_READ if mask & ~_OUT else 0)
                    if own & key.events:
                        events.append((key, own & key.events))
            if not ready:
                break
            self._turn(ready)
            if events:
                break
            wait = 0.0
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
        self._epoll.close()
        self._keys.clear()
        self._callbacks.clear()
        self._alone.clear()


def _descriptor(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


def _each(ready: list[Callable[[], None]]) -> None:
    for callback in ready:
        callback()
