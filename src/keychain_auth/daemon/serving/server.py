"""Accepts connections on one listener and keeps them within the limits.

New connections are looked at for a millisecond at a time, one of each process in turn (``doorway``), so that a thousand
of them at once delay nobody who is already served, and no other process's connection for long. A connection is not
read from before it is known who it is: until then its bytes stay in the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Coroutine
from typing import Any, Protocol

from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.serving import eager
from keychain_auth.daemon.serving.connection import Connection
from keychain_auth.daemon.serving.doorway import Doorway, Process
from keychain_auth.daemon.serving.handler import Handler
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.daemon.shares import Share
from keychain_auth.platform.base import Channel, Listener, Readiness
from keychain_auth.reasons import RATE_LIMITED
from keychain_auth.wire.codec import encode_reason
from keychain_auth.wire.messages import Limits

# What a turn of the loop spends on new connections before it serves again those who are in: on taking them from the
# kernel (and turning away those beyond their process's limit), and on finding out who they are.
_ACCEPT_SECONDS = 0.0005
_WELCOME_SECONDS = 0.001
_DOORWAY = 1024  # accepted and not yet looked at, at most
# Those who are answered later: for this long, this often, and so many of each kind.
_LATER_SECONDS = 0.005
_LATER_APART = 0.05
_LATER = 512
_SWEEP_SECONDS = 1.0
_CUT_SECONDS = 1.0  # at the end, for answers that are being made
_REFUSED_PATIENCE = 10.0  # a connection that will only be refused may be silent for this long


class Gate(Protocol):
    """Who decides about a fresh connection."""

    def admit(self, channel: Channel) -> Coroutine[Any, Any, Handler]:
        """The handler of its lines."""

    def turn_away(self, channel: Channel, reason: str) -> None:
        """Record one that exceeds the limits."""

    def is_known_stranger(self, pid: int) -> bool:
        """Whether this process was refused a moment ago, and may wait a little for being refused again."""


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
        *,
        for_people: bool = False,
        share: Share | None = None,
    ) -> None:
        """``share``: of connections, of each user.

        ``for_people``: whoever connects here asks at once, and once. So a silent connection is no program that may
        still want something: it is waited for as briefly as for an unfinished line, and gives way when room is needed.
        """
        self._loop = loop
        self._readiness = readiness
        self._turn = turn
        self._listener = listener
        self._gate = gate
        self._limits = limits
        self._journal = journal
        self._for_people = for_people
        self._share = Share() if share is None else share
        self._connections: dict[Connection, Process] = {}
        self._by_process: Counter[int] = Counter()
        self._welcoming = 0
        self._doorway = Doorway(_DOORWAY)
        self._later = Doorway(_LATER)
        self._excess: deque[Channel] = deque()
        self._exceeded: set[Process | int] = set()  # processes and users that had too many since the last sweep
        self._later_timer: asyncio.TimerHandle | None = None
        self._more_to_welcome = False
        self._accepting = False
        self._refused: dict[Connection, None] = {}  # the oldest first
        self._ending = False  # who is still being looked at is heard, and no more
        self._stopping = False
        self._empty = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many are open, those that are being verified included."""
        return len(self._connections) + self._welcoming

    def start(self) -> None:
        """Begin to accept."""
        self._accept_on(True)
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    async def stop(self, seconds: float) -> None:
        """Accept no more, answer for at most ``seconds`` what was sent until now; then finish the answers under way.

        Who was refused a moment ago and waits to be refused again is let go without an answer.
        """
        self._ending = True
        self._accept_on(False)
        for waiting in (*self._later.take_all(), *self._excess):
            waiting.close()
        self._excess.clear()
        for timer in (self._sweeper, self._later_timer):
            if timer is not None:
                timer.cancel()
        for connection in list(self._connections):
            connection.stop()
        await self._all_ended(seconds)
        self._stopping = True
        for waiting in self._doorway.take_all():
            waiting.close()
        for connection in list(self._connections):
            connection.cut()
        await self._all_ended(_CUT_SECONDS)
        for connection in list(self._connections):
            connection.close()
        self._listener.close()

    async def _all_ended(self, seconds: float) -> None:
        """Wait until nobody is left, for at most ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections or len(self._doorway):
                    self._empty.clear()
                    await self._empty.wait()

    # --- from the kernel's queue to the gate --------------------------------------------------------

    def _acceptable(self) -> None:
        try:
            self._fill_doorway()
        finally:
            if not self._more_to_welcome:
                self._welcome_some()

    def _fill_doorway(self) -> None:
        until = time.monotonic() + _ACCEPT_SECONDS
        more = True
        while more and time.monotonic() < until:
            if self._doorway.full:
                self._accept_on(False)
                return
            try:
                channel = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:  # out of descriptors or memory: try again when the sweeper comes
                self._journal.error("cannot accept a connection", why=error)
                self._accept_on(False)
                return
            self._sort(channel)
            more = self._listener.may_have_more()

    def _sort(self, channel: Channel) -> None:
        """To the doorway; but who was refused a moment ago, or again has too many, is answered later.

        Such a flood goes round as fast as it is answered: at once, it would keep the daemon and the machine busy.
        """
        process = pid, uid = channel.peer_credentials()
        if self._share.is_full(uid) or self._by_process[pid] >= self._limits.connections_per_process:
            self._excess.append(channel)
            who = uid if self._share.is_full(uid) else process
            if who not in self._exceeded or len(self._excess) > _LATER:
                self._exceeded.add(who)
                self._turn_away(self._excess.pop())
        else:
            self._by_process[pid] += 1
            self._share.take(uid)
            later = self._gate.is_known_stranger(pid) and not self._later.full
            (self._later if later else self._doorway).put(process, channel)
        if self._later_timer is None and (self._excess or len(self._later)):
            self._later_timer = self._loop.call_later(_LATER_APART, self._serve_later)

    def _serve_later(self) -> None:
        self._later_timer = None
        until = time.monotonic() + _LATER_SECONDS
        try:
            while (self._excess or len(self._later)) and time.monotonic() < until:
                if self._excess:
                    self._turn_away(self._excess.popleft())
                if (waiting := self._later.take()) is not None:
                    self._welcome(*waiting)
        finally:
            if self._excess or len(self._later):
                self._later_timer = self._loop.call_later(_LATER_APART, self._serve_later)

    def _accept_on(self, wanted: bool) -> None:
        if wanted is not self._accepting:
            self._accepting = wanted
            if wanted:
                self._loop.add_reader(self._listener.fileno(), self._acceptable)
            else:
                self._loop.remove_reader(self._listener.fileno())

    def _welcome_some(self) -> None:
        """A few of them; the others when those who are served already had their turn of the loop."""
        self._more_to_welcome = False
        until = time.monotonic() + _WELCOME_SECONDS
        try:
            while (waiting := self._doorway.take()) is not None:
                self._welcome(*waiting)
                if time.monotonic() > until:
                    break
        finally:
            if len(self._doorway):
                self._more_to_welcome = True
                self._loop.call_soon(self._welcome_some)
            elif not self._ending:
                self._accept_on(True)

    def _welcome(self, process: Process, channel: Channel) -> None:
        if not self._make_room():
            self._turn_away(channel)
            self._forget(process)
            return
        self._welcoming += 1

        def admitted(task: asyncio.Future[Handler]) -> None:
            self._admitted(channel, process, None if task.cancelled() or task.exception() else task.result())

        try:
            handler = eager.run(self._loop, self._gate.admit(channel), admitted)
        except BaseException:
            self._admitted(channel, process, None)
            raise
        if handler is not None:
            self._admitted(channel, process, handler)

    def _admitted(self, channel: Channel, process: Process, handler: Handler | None) -> None:
        self._welcoming -= 1
        if handler is None or self._stopping:
            channel.close()
            if handler is not None:
                handler.close()
            self._forget(process)
            return
        patience = first = self._limits.idle_seconds if handler.admitted else _REFUSED_PATIENCE
        if self._for_people:
            first = min(patience, self._limits.unfinished_line_seconds)
        connection = Connection(
            self._loop, self._readiness, self._turn, channel, handler, self._limits, patience, first, self._ended
        )
        self._connections[connection] = process
        if not handler.admitted:
            self._refused[connection] = None
        connection.begin()
        if self._ending:
            connection.stop()

    def _make_room(self) -> bool:
        """Room for one more. The refused give way to the new, the admitted never do: strangers crowd out strangers.

        Where people ask, the longest silent gives way too.
        """
        if self.connections < self._limits.connections:
            return True
        leaving = next((each for each in self._refused if not each.admitted), None)
        if leaving is None and self._for_people:
            silent = [(silence, at) for at, each in enumerate(self._connections) if (silence := each.silence)]
            leaving = list(self._connections)[min(silent)[1]] if silent else None
        if leaving is None:
            return False
        leaving.close()
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
        self._refused.pop(connection, None)
        self._forget(self._connections.pop(connection))

    def _forget(self, process: Process) -> None:
        pid, uid = process
        self._share.give_back(uid)
        self._by_process[pid] -= 1
        if not self._by_process[pid]:
            del self._by_process[pid]
        if not self.connections:
            self._empty.set()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.expire(now)
        self._exceeded.clear()
        if not self._doorway.full:
            self._accept_on(True)
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
