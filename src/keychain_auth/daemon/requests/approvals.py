"""Requests of strangers that wait for a person: who asks, what for, and how the wait ends.

Contract:
* Only a connection waits, and only for so long as its client is there, its deadline is not over, and there is room:
  ``waiting`` connections in all, ``waiting_per_process`` of each process, and a share of each user. Whoever finds no
  room is refused at once, as if there were no waiting. So a flood of strangers holds a few connections, and costs
  nobody else anything.
* The same program is one entry, however many connections of it wait. A person who says "not now" ends all of them, and
  for some minutes the program does not wait again.
* Waiting grants nothing. What ends it well is a change of the policy, made and sealed like any other; then the process
  is verified anew (``refused_session``), and the decision is the pipeline's.
* No value is kept: of a request only its action, service and names.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from keychain_auth.daemon.requests.caller import Caller
from keychain_auth.daemon.shares import Share
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.errors import quoted
from keychain_auth.model import Request
from keychain_auth.moments import stamp
from keychain_auth.platform.base import Peer
from keychain_auth.platform.parents import starters
from keychain_auth.policy.pending import PendingEntry
from keychain_auth.wire import codec
from keychain_auth.wire.messages import Limits

_LOOK_SECONDS = 0.2
_NOT_NOW_SECONDS = 600.0
_MOST_REFUSED = 256
_SHOWN_TARGETS = 20
_MOST_WISHES = 20
_TOLD_SECONDS, _TOLD_MOST = 60.0, 5  # notifications: this many in so long

Key = tuple[str, str, str, str]


class Wish(NamedTuple):
    """What a request wants, without any value."""

    action: str
    service: str
    match: str
    targets: tuple[str, ...]


class End(Enum):
    """How a look at a waiting connection ends."""

    POLICY_CHANGED = "the policy changed"
    REFUSED = "a person said no"
    LATE = "its time is over"
    GONE = "its client went away"


class Ticket:
    """One connection that waits. ``until``: of ``time.monotonic``."""

    __slots__ = ("generation", "key", "pid", "uid", "until")

    def __init__(self, key: Key, pid: int, uid: int, until: float, generation: int) -> None:
        self.key = key
        self.pid = pid
        self.uid = uid
        self.until = until
        self.generation = generation


class _Asked:
    """A program that asks right now."""

    __slots__ = ("entry", "grade", "id", "parents", "since", "tickets", "wishes")

    def __init__(self, key: Key, entry: PendingEntry, grade: str, pid: int) -> None:
        self.id = blake2b("\0".join(key).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
        self.entry = entry
        self.grade = grade
        self.since = stamp(datetime.now(UTC))
        self.parents = starters(pid)
        self.wishes: dict[Wish, None] = {}
        self.tickets: set[Ticket] = set()


class Approvals:
    """Who waits now. Belongs to the event loop."""

    def __init__(
        self,
        policy_file: PolicyFile,
        limits: Limits,
        unasked: float,
        tell: Callable[[str, str], None],
        share: Share | None = None,
    ) -> None:
        """``unasked``: seconds that a request waits although it did not ask to. ``tell``: shows a person something.

        ``share``: of the places, of each user.
        """
        self._share = Share() if share is None else share
        self._policy_file = policy_file
        self._limits = limits
        self._unasked = unasked
        self._tell = tell
        self._asked: dict[Key, _Asked] = {}
        self._by_process: Counter[int] = Counter()
        self._refused: dict[Key, float] = {}
        self._told: deque[float] = deque()
        self._listeners: set[asyncio.Future[None]] = set()
        self._stopping = False
        self.version = 0

    def patience(self, line: bytes) -> tuple[Request, float] | None:
        """What the line wants, and for how many seconds it would wait; None for one that does not, or is no request."""
        if not self._unasked and b'"wait"' not in line:
            return None
        try:
            request = codec.decode_request(line, self._limits)
        except codec.Malformed:
            return None
        seconds = min(max(float(codec.wait_of(line)), self._unasked), self._limits.wait_seconds)
        return (request, seconds) if seconds else None

    def begin(self, caller: Caller, request: Request, seconds: float) -> Ticket | None:
        """A place to wait in; None if there is none for this program now."""
        entry, pid, uid = caller.pending_entry(), caller.identity.pid, caller.identity.uid
        key, now = entry.key, time.monotonic()
        if self._refused.get(key, 0.0) > now:
            return None
        if self._by_process.total() >= self._limits.waiting or self._share.is_full(uid):
            return None
        if self._by_process[pid] >= self._limits.waiting_per_process:
            return None
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = _Asked(key, entry, caller.identity.grade, pid)
            self._announce(entry, request, now)
        if len(asked.wishes) < _MOST_WISHES:
            asked.wishes[Wish(request.action, request.service, request.match, request.targets[:_SHOWN_TARGETS])] = None
        ticket = Ticket(key, pid, uid, now + seconds, self._policy_file.generation)
        asked.tickets.add(ticket)
        self._by_process[pid] += 1
        self._share.take(uid)
        self._note()
        return ticket

    def end(self, ticket: Ticket) -> None:
        """It waits no more."""
        self._share.give_back(ticket.uid)
        self._by_process[ticket.pid] -= 1
        if not self._by_process[ticket.pid]:
            del self._by_process[ticket.pid]
        asked = self._asked.get(ticket.key)
        if asked is not None:
            asked.tickets.discard(ticket)
            if not asked.tickets:
                del self._asked[ticket.key]
        self._note()

    async def wait(self, ticket: Ticket, peer: Peer) -> End:
        """Return when there is something to look at. The policy's file is looked at meanwhile."""
        while True:
            if self._refused.get(ticket.key, 0.0) > time.monotonic():
                return End.REFUSED
            if self._stopping:
                return End.LATE
            self._policy_file.refresh()
            if ticket.generation != self._policy_file.generation:
                ticket.generation = self._policy_file.generation
                return End.POLICY_CHANGED
            left = ticket.until - time.monotonic()
            if left <= 0:
                return End.LATE
            if not peer.is_connected():
                return End.GONE
            await asyncio.sleep(min(_LOOK_SECONDS, left))

    def stop(self) -> None:
        """The daemon ends: whoever waits is answered within a moment."""
        self._stopping = True
        self._note()

    def not_now(self, identifier: str) -> str | None:
        """Refuse all that waits of one program, and whatever comes in the next minutes; its path, None if it is gone.

        It leaves the list at once, though its connections take a moment to be answered.
        """
        now = time.monotonic()
        for key, asked in self._asked.items():
            if asked.id == identifier and self._refused.get(key, 0.0) <= now:  # said once, it is recorded once
                self._refused.pop(key, None)
                while len(self._refused) >= _MOST_REFUSED:
                    self._refused.pop(next(iter(self._refused)))
                self._refused[key] = now + _NOT_NOW_SECONDS
                self._note()
                return asked.entry.path
        return None

    def now(self) -> list[dict[str, Any]]:
        """Everybody who waits, the longest first, for people."""
        moment = time.monotonic()
        return [
            {
                **msgspec.to_builtins(asked.entry),
                "id": asked.id,
                "grade": asked.grade,
                "since": asked.since,
                "seconds_left": max(0, round(max(ticket.until for ticket in asked.tickets) - moment)),
                "connections": len(asked.tickets),
                "wants": [wish._asdict() for wish in asked.wishes],
                "parents": [parent._asdict() for parent in asked.parents],
            }
            for key, asked in self._asked.items()
            if asked.tickets and self._refused.get(key, 0.0) <= moment
        ]

    async def news(self, version: int, seconds: float) -> None:
        """Return once something is different from ``version``, or after ``seconds``."""
        if self.version != version or self._stopping:
            return
        loop = asyncio.get_running_loop()
        told = loop.create_future()  # not asyncio.timeout: the first step of an answer is made outside of any task
        timer = loop.call_later(seconds, _settle, told)
        self._listeners.add(told)
        try:
            await told
        finally:
            timer.cancel()
            self._listeners.discard(told)

    def _note(self) -> None:
        self.version += 1
        for told in self._listeners:
            _settle(told)

    def _announce(self, entry: PendingEntry, request: Request, now: float) -> None:
        """On the desktop, and no more often than a person can read."""
        while self._told and self._told[0] < now - _TOLD_SECONDS:
            self._told.popleft()
        if len(self._told) < _TOLD_MOST:
            self._told.append(now)
            wanted = f"{request.action} {quoted(request.service)}"
            what = f"{quoted(entry.path)} asks to {wanted}. Answer it with: keychain-auth watch"
            self._tell("keychain-auth: a program waits for you", what)


def _settle(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
