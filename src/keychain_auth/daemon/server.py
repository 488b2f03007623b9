"""Accepts connections on one listener and keeps them within the limits.

New connections are taken a few at a time, so that a thousand of them at once delay nobody who is already served. A
connection is not read from before it is known who it is: until then its bytes stay in the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Protocol

from keychain_auth.daemon import eager
from keychain_auth.daemon.connection import Connection, Handler
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.turn import Turn
from keychain_auth.platform.base import Channel, Listener, Readiness
from keychain_auth.wire.codec import encode_reason
from keychain_auth.wire.messages import RATE_LIMITED, Limits

_ACCEPTED_AT_ONCE = 4
_SWEEP_SECONDS = 1.0
_REFUSED_PATIENCE = 10.0  # a connection that will only be refused may be silent for this long


class Gate(Protocol):
    """Who decides about a fresh connection."""

    def admit(self, channel: Channel) -> Coroutine[Any, Any, Handler]:
        """The handler of its lines."""

    def turn_away(self, channel: Channel, reason: str) -> None:
        """Record one that exceeds the limits."""


class Server:
    """One listener and its connections."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        readiness: Readiness,
        turn: Turn,
        listener: Listener,
        gate: Gate,
        limits: Limits,
        journal: Journal,
    ) -> None:
        self._loop = loop
        self._readiness = readiness
        self._turn = turn
        self._listener = listener
        self._gate = gate
        self._limits = limits
        self._journal = journal
        self._connections: dict[Connection, int] = {}
        self._by_process: Counter[int] = Counter()
        self._welcoming = 0
        self._stopping = False
        self._empty = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many are open, those that are being verified included."""
        return len(self._connections) + self._welcoming

    def start(self) -> None:
        """Begin to accept."""
        self._loop.add_reader(self._listener.fileno(), self._acceptable)
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    async def stop(self, seconds: float) -> None:
        """Accept no more, take no more requests, finish the answers under way for at most ``seconds``."""
        self._stopping = True
        self._loop.remove_reader(self._listener.fileno())
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections:
                    self._empty.clear()
                    await self._empty.wait()
        for connection in list(self._connections):
            connection.close()
        self._listener.close()

    def _acceptable(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                channel = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:  # out of descriptors or memory: try again when the sweeper comes
                self._journal.error("cannot accept a connection", why=error)
                self._loop.remove_reader(self._listener.fileno())
                return
            self._welcome(channel)

    def _welcome(self, channel: Channel) -> None:
        pid, _ = channel.peer_credentials()
        if self._by_process[pid] >= self._limits.connections_per_process or not self._make_room():
            self._turn_away(channel)
            return
        self._by_process[pid] += 1
        self._welcoming += 1

        def admitted(task: asyncio.Task[Handler]) -> None:
            self._admitted(channel, pid, None if task.cancelled() or task.exception() else task.result())

        try:
            handler = eager.run(self._loop, self._gate.admit(channel), admitted)
        except BaseException:
            self._admitted(channel, pid, None)
            raise
        if handler is not None:
            self._admitted(channel, pid, handler)

    def _admitted(self, channel: Channel, pid: int, handler: Handler | None) -> None:
        self._welcoming -= 1
        if handler is None or self._stopping:
            channel.close()
            if handler is not None:
                handler.close()
            self._forget(pid)
            return
        patience = self._limits.idle_seconds if handler.admitted else _REFUSED_PATIENCE
        connection = Connection(
            self._loop, self._readiness, self._turn, channel, handler, self._limits, patience, self._ended
        )
        self._connections[connection] = pid

    def _make_room(self) -> bool:
        """Room for one more. The refused give way to the new, the admitted never do: strangers crowd out strangers."""
        if self.connections < self._limits.connections:
            return True
        refused = next((connection for connection in self._connections if not connection.admitted), None)
        if refused is None:
            return False
        refused.close()
        return True

    def _turn_away(self, channel: Channel) -> None:
        """One line, without waiting for a request: there is no room to wait in."""
        self._gate.turn_away(channel, RATE_LIMITED)
        with contextlib.suppress(OSError):
            channel.send(encode_reason(RATE_LIMITED))
            channel.end_output()
            channel.receive()
        channel.close()

    def _ended(self, connection: Connection) -> None:
        self._forget(self._connections.pop(connection))

    def _forget(self, pid: int) -> None:
        self._by_process[pid] -= 1
        if not self._by_process[pid]:
            del self._by_process[pid]
        if not self.connections:
            self._empty.set()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.expire(now)
        self._loop.add_reader(self._listener.fileno(), self._acceptable)
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
