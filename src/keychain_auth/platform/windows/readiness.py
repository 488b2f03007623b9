"""What the event loop waits by on Windows: one completion port for pipes, timers and other threads.

Windows does not say that a pipe *can* be read; it says that a read *has been done*. So each connection keeps one read
under way, and is readable when that is done (``channel.py``). To the loop all of this is a selector, as on Linux: the
connections are served here, all that are ready as one turn, and the loop gets what is its own.

The loop's own socket, by which other threads wake it (asyncio's self-pipe), cannot be waited for by a completion port
in this way: whoever wakes the loop posts an empty packet as well, and that makes the socket readable.

An operation of Windows writes into memory of ours until its packet has been taken from the port: ``Operation`` keeps
that memory, and the port keeps the operation.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import asyncio
import contextlib
import contextvars
import math
import selectors
from collections.abc import Callable
from typing import Any, TypeVarTuple

import pywintypes
import win32file
import winerror

from keychain_auth.platform.selector import ConnectionSelector

_Words = TypeVarTuple("_Words")

_AT_ONCE = 64
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_WAKE = 1  # the key of packets that wake the loop; operations have 0
_FOREVER = -1  # INFINITE, as pywin32 takes it


class Operation:
    """One overlapped call. ``done(error, count)`` is called once it is over; ``memory`` is what Windows works on."""

    __slots__ = ("done", "memory", "overlapped")

    def __init__(self, done: Callable[[int, int], None], memory: object) -> None:
        self.done = done
        self.memory = memory
        self.overlapped = pywintypes.OVERLAPPED()
        self.overlapped.object = self


class Readiness(ConnectionSelector):
    """See ``base.Readiness``. What is watched has a number of its own: the value of its handle."""

    def __init__(self) -> None:
        super().__init__()
        self._port = win32file.CreateIoCompletionPort(win32file.INVALID_HANDLE_VALUE, None, 0, 0)
        self._under_way: set[Operation] = set()
        self._readable: set[int] = set()
        self._writable: set[int] = set()
        self._watched: dict[int, Callable[[], None]] = {}  # who begins to read when it is watched
        self._woken = False

    # --- for pipes ------------------------------------------------------------------------------

    def attach(self, handle: Any) -> None:
        """Have the packets of ``handle`` come here. Once for each handle."""
        win32file.CreateIoCompletionPort(handle, self._port, 0, 0)

    def watch(self, number: int, begin: Callable[[], None]) -> None:
        """``begin`` is called when somebody waits to read from the thing with this number."""
        self._watched[number] = begin

    def forget(self, number: int) -> None:
        """The thing with this number is about to be closed."""
        self._watched.pop(number, None)
        self._readable.discard(number)
        self._writable.discard(number)

    def begin(self, done: Callable[[int, int], None], memory: object) -> Operation:
        """An operation that is about to be started. It stays until its packet comes, or ``never_begun``."""
        operation = Operation(done, memory)
        self._under_way.add(operation)
        return operation

    def never_begun(self, operation: Operation) -> None:
        """No packet will come for it."""
        self._under_way.discard(operation)

    def set_readable(self, number: int, state: bool) -> None:
        """Whether there is something to take."""
        (self._readable.add if state else self._readable.discard)(number)

    def set_writable(self, number: int, state: bool) -> None:
        """Whether more can be given to it."""
        (self._writable.add if state else self._writable.discard)(number)

    # --- for the daemon (base.Readiness) --------------------------------------------------------

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop that waits by this."""
        self._loop = _Loop(self)
        return self._loop

    def wake(self) -> None:
        """Have ``select`` return; from any thread."""
        with contextlib.suppress(pywintypes.error):
            win32file.PostQueuedCompletionStatus(self._port, 0, _WAKE, None)

    def _watch(self, fd: int) -> None:
        """Who waits to read has a read begun, unless one is under way; nothing has to be ended for who does not."""
        key = self._keys.get(fd)
        if fd in self._callbacks or (key is not None and key.events & _READ):
            begin = self._watched.get(fd)
            if begin is not None:
                begin()

    # --- the loop's side (selectors.BaseSelector) -----------------------------------------------

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve the connections that are ready; what else is ready is the result."""
        wait = _FOREVER if timeout is None else math.ceil(max(timeout, 0.0) * 1e3)
        self._take_packets(0 if self._is_ready() else wait)
        ready = [self._callbacks[number] for number in self._readable & self._callbacks.keys()]
        events = [(key, mask) for key in self._keys.values() if (mask := self._state(key.fd) & key.events)]
        if self._woken:
            self._woken = False
            events += [(key, _READ) for key in self._keys.values() if key.fd not in self._watched]
        if ready:
            self._turn(ready)
        return events

    def _is_ready(self) -> bool:
        return bool(self._readable & self._callbacks.keys()) or any(
            self._state(key.fd) & key.events for key in self._keys.values()
        )

    def _state(self, number: int) -> int:
        return (_READ if number in self._readable else 0) | (_WRITE if number in self._writable else 0)

    def _take_packets(self, wait: int) -> None:
        for _ in range(_AT_ONCE):
            error, count, key, overlapped = win32file.GetQueuedCompletionStatus(self._port, wait)
            if overlapped is None:
                if error == winerror.WAIT_TIMEOUT:
                    return
                self._woken = self._woken or key == _WAKE
            else:
                operation: Operation = overlapped.object
                overlapped.object = None  # each holds the other
                self._under_way.discard(operation)
                operation.done(error, count)
            wait = 0

    def close(self) -> None:
        """Watch nothing any more."""
        super().close()
        self._port.Close()


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, which other threads wake by a packet."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        super().__init__(readiness)

    def call_soon_threadsafe(
        self, callback: Callable[[*_Words], object], *args: *_Words, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """See asyncio."""
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        self._readiness.wake()
        return handle
