"""What the event loop waits by, with a short way for the connections.

Why not ``loop.add_reader`` for each connection: for each ready descriptor the event loop makes, queues and runs a
handle, about 4 µs, as much as receiving and sending together. Here the selector that the loop waits by (a public part
of asyncio) serves the connections itself, all that are ready as one turn, and hands the loop only what is its own:
accepts, worker threads, writers. A second descriptor for the connections, itself watched by the loop, costs a system
call and a handle for each turn.

Nor does it go back to the loop after each turn, but only for what is the loop's: its own event, a timer, something
that a turn asked it for. A round of the loop with nothing to do costs 3 µs, more than half of what a connection that
asks again at once waits for beside the answer itself.

Level-triggered: what is left unread is reported again. So whoever left waits for one round of the loop where that has
something to do: mostly somebody connects, and his answer need not wait for the end of another connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import os
import select
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Sized
from functools import partial
from typing import Any, TypeVarTuple

from keychain_auth.platform.selector import ConnectionSelector

_AT_ONCE = 64
# Looks after a turn before it sleeps, 0.6 µs each: who got an answer often asks again at once, and to be woken from
# sleep takes longer than the answer (on a virtual machine 15 µs).
_LOOKS = 8

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP
_ONE = (1).to_bytes(8, sys.byteorder)  # eventfd(2): a number of eight bytes
_Words = TypeVarTuple("_Words")


class _Loop(asyncio.SelectorEventLoop):
    """Remembers whether anybody asked it for anything (``asked``), until its selector forgets it.

    What signals ask for comes as an event of the loop's own. What other threads ask for is done by the selector, as a
    connection is served: two rounds of the loop less, and one byte through two sockets.
    """

    asked = False

    def __init__(self, readiness: Readiness) -> None:
        self._posted: deque[tuple[asyncio.Handle, Callable[[], object]]] = deque()
        self._bell = open(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+b", buffering=0)  # noqa: SIM115
        super().__init__(readiness)
        readiness.add(self._bell.fileno(), self._take_posted)

    def call_soon_threadsafe(
        self, callback: Callable[[*_Words], object], *args: *_Words, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """See asyncio. Raises RuntimeError if the loop is closed."""
        context = context or contextvars.copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        run = partial(context.run, callback, *args)
        self._posted.append((handle, run))
        try:
            self._bell.write(_ONE)
        except ValueError:
            raise RuntimeError("Event loop is closed") from None
        return handle

    def _take_posted(self) -> None:
        self._bell.read(len(_ONE))
        posted = self._posted
        for _ in range(len(posted)):
            handle, run = posted.popleft()
            if handle.cancelled():
                continue
            try:
                run()
            except Exception as fault:  # noqa: BLE001 - as the loop treats a callback
                self.call_exception_handler({"message": "a callback failed", "exception": fault, "handle": handle})

    def close(self) -> None:
        """See asyncio."""
        super().close()
        self._bell.close()

    def call_soon(self, *words: Any, **named: Any) -> asyncio.Handle:  # type: ignore[override]
        self.asked = True
        return super().call_soon(*words, **named)

    def call_at(self, *words: Any, **named: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        self.asked = True
        return super().call_at(*words, **named)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.asked = True
        super().call_exception_handler(context)


class Readiness(ConnectionSelector):
    """See ``base.Readiness``. Belongs to the one loop that ``new_loop`` makes, which closes it."""

    _loop: _Loop | None

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._masks: dict[int, int] = {}  # what epoll watches
        self._alone: dict[int, Callable[[], None]] = {}  # of the connections', what the loop does not watch too
        self._postponed = False  # the ends of connections, in the last round

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop that waits by this."""
        self._loop = _Loop(self)
        return self._loop

    def _watch(self, fd: int) -> None:
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
        """Serve the connections that are ready, until the loop has something to do; what else is ready is the result.

        Without a loop: until connections were served once.
        """
        loop, wait, until = self._loop, -1.0, math.inf
        if timeout is not None:
            wait, until = max(timeout, 0.0), time.monotonic() + timeout
        events: list[tuple[selectors.SelectorKey, int]] = []
        keys, callbacks, alone = self._keys, self._callbacks, self._alone
        looks = 0
        while True:
            ready: list[Callable[[], None]] = []
            gone: list[Callable[[], None]] = []
            for fd, mask in self._look(looks, wait):
                if mask == _IN and (callback := alone.get(fd)) is not None:  # nearly always
                    ready.append(callback)
                    continue
                if mask != _OUT and (callback := callbacks.get(fd)) is not None:
                    (gone if mask & _GONE else ready).append(callback)
                if (key := keys.get(fd)) is not None:
                    own = (_WRITE if mask & ~_IN else 0) | (_READ if mask & ~_OUT else 0)
                    if own & key.events:
                        events.append((key, own & key.events))
            if gone and not self._postpone(events):
                ready += gone
            if not ready:
                return events
            if loop is not None:
                loop.asked = False
            answered = self._turn(ready) is not False
            if events or loop is None or loop.asked:
                return events
            looks = _LOOKS if answered else 0
            if timeout is not None and (wait := until - time.monotonic()) <= 0:
                return events

    def _postpone(self, events: Sized) -> bool:
        """Whether those who left wait until the loop has done what ``events`` say; never twice in a row."""
        self._postponed = bool(events) and not self._postponed
        return self._postponed

    def _look(self, looks: int, wait: float) -> list[tuple[int, int]]:
        poll = self._epoll.poll
        for _ in range(looks):
            if found := poll(0.0, _AT_ONCE):
                return found
        # epoll_wait(2) counts milliseconds: rounded down, a timer would be waited for busily.
        return poll(math.ceil(wait * 1e3) * 1e-3 if wait > 0 else wait, _AT_ONCE)

    def close(self) -> None:
        """Watch nothing any more."""
        super().close()
        self._epoll.close()
        self._alone.clear()
