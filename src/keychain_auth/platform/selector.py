"""What the selectors of all systems have in common: who is watched, by whom, and what becomes of a fault in a turn.

A selector serves the connections itself, all that are ready as one turn, and hands asyncio's loop only what is the
loop's own (``linux.readiness`` says why). One descriptor may be watched by both sides: a connection that sends a long
answer.

A system brings ``new_loop``, ``select`` and ``_watch``, which is told of each change of ``_callbacks`` and ``_keys``.
What it does not promise: that a fault is survived without a loop, which would report it; then it is raised.
"""

from __future__ import annotations

import asyncio
import selectors
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any


class ConnectionSelector(selectors.BaseSelector):
    """The part of ``base.Readiness`` and of a selector that asks nothing of the system."""

    def __init__(self) -> None:
        self._keys: dict[int, selectors.SelectorKey] = {}  # the loop's own
        self._callbacks: dict[int, Callable[[], None]] = {}  # the connections'
        self._serve: Callable[[list[Callable[[], None]]], object] = _each
        self._loop: asyncio.AbstractEventLoop | None = None

    @abstractmethod
    def _watch(self, fd: int) -> None:
        """What is wanted of ``fd`` may have changed: have the system watch for that, or for nothing any more."""

    # --- for the daemon (base.Readiness) --------------------------------------------------------

    @abstractmethod
    def new_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop that waits by this, kept as ``_loop``."""

    def serve_by(self, serve: Callable[[list[Callable[[], None]]], object]) -> None:
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

    def _turn(self, ready: list[Callable[[], None]]) -> object:
        try:
            return self._serve(ready)
        except Exception as fault:  # as the loop treats a callback: reported, and the loop goes on
            if self._loop is None:
                raise
            self._loop.call_exception_handler({"message": "a turn failed", "exception": fault})
            return None

    # --- the loop's side (selectors.BaseSelector) -----------------------------------------------

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
        self._keys.clear()
        self._callbacks.clear()


def _descriptor(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


def _each(ready: list[Callable[[], None]]) -> None:
    for callback in ready:
        callback()
