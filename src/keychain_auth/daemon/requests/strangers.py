"""Programs that were refused a moment ago, as long as they are the same: a second connection of theirs is cheap.

A whole look at a process costs half a millisecond, and a flood is a few processes that connect again and again. What is
remembered is that a process runs a program with no entry at its path. It counts for a second, for the same exec of the
same process (its /proc folder stays open, so the pid cannot have changed hands), under the same policy. Nothing but a
refusal comes of it.

What it does not promise: that a script which becomes the registered one while it runs is noticed within that second.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from keychain_auth.daemon.requests.caller import Caller
from keychain_auth.model import Denial
from keychain_auth.platform.base import Peer

_SECONDS = 1.0
_MOST = 256


class Stranger(NamedTuple):
    """``peer`` is the process as it was looked at, ``until`` when to look again (the loop's clock)."""

    peer: Peer
    caller: Caller
    denial: Denial
    generation: int
    until: float


class Strangers:
    """The last few of them, by pid."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._by_pid: dict[int, Stranger] = {}  # the oldest first
        self._refused: set[int] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def recall(self, pid: int, generation: int) -> Stranger | None:
        """The stranger that ``pid`` was under policy ``generation`` a moment ago, and still is."""
        stranger = self._by_pid.get(pid)
        if stranger is None or stranger.generation != generation:
            return None
        if stranger.until < asyncio.get_running_loop().time() or not stranger.peer.runs_same_exec():
            return None
        return stranger

    def remember(self, peer: Peer, caller: Caller, denial: Denial, generation: int) -> None:
        """From now on ``peer`` is closed by this object."""
        loop = asyncio.get_running_loop()
        self._forget(peer.pid)
        while len(self._by_pid) >= _MOST:
            self._forget(next(iter(self._by_pid)))
        self._by_pid[peer.pid] = Stranger(peer, caller, denial, generation, loop.time() + self._seconds)
        if self._sweep is None:
            self._sweep = loop.call_later(self._seconds, self._forget_old)

    def __contains__(self, pid: int) -> bool:
        """Whether ``pid`` was refused within the last second or so; it may be another program by now."""
        return pid in self._refused

    def refused(self, pid: int) -> None:
        """Note that ``pid`` was refused, whatever the reason."""
        self._refused.add(pid)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._seconds, self._forget_old)

    def holds(self, peer: Peer) -> bool:
        """Whether ``peer`` is this object's to close."""
        stranger = self._by_pid.get(peer.pid)
        return stranger is not None and stranger.peer is peer

    def close(self) -> None:
        """Forget all of them."""
        if self._sweep is not None:
            self._sweep.cancel()
        for pid in list(self._by_pid):
            self._forget(pid)

    def _forget_old(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = None
        self._refused.clear()
        for pid, stranger in list(self._by_pid.items()):
            if stranger.until >= loop.time():
                self._sweep = loop.call_at(stranger.until, self._forget_old)
                return
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        stranger = self._by_pid.pop(pid, None)
        if stranger is not None:
            stranger.peer.close()
