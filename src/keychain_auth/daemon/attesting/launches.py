"""Scripts that this daemon saw before their first instruction, for as long as they live.

Contract:
* What is remembered belongs to one exec of one process: another program that the process becomes later, or another
  process that gets its number, is not it.
* It is remembered before the process runs its first instruction, and forgotten when it ends. Nothing is kept over a
  restart of the daemon: whoever was launched before is then as little known as any other script.

What it does not promise: anything about what is done to the memory of a launched script later.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from typing import Protocol

import msgspec

from keychain_auth.identity.facts import ExecId, FileKey
from keychain_auth.model import Launch, Program

MOST = 256
"""How many are remembered at once: each costs a descriptor."""


class Watch(Protocol):
    """What was verified at the start, to be looked at again."""

    def changed(self) -> tuple[str, ...]:
        """The paths of what is no longer as it was, a few of them; for a worker thread. Raises OSError."""

    def has(self, path: str, key: FileKey) -> bool:
        """Was this version of this file verified?"""


class Launched(msgspec.Struct, frozen=True):
    """One process. ``launch`` and ``script`` are as the entry had them then; ``watch`` is None if nothing but root's
    files were loaded. ``before``: sockets of connections that are older than it (``PeerFacts.sockets``)."""

    pid: int
    pidfd: int
    exec_id: ExecId
    interpreter: Program
    script: Program
    launch: Launch
    watch: Watch | None = None
    before: frozenset[int] = frozenset()


class Launches:
    """The living ones, by pid. ``remember`` is called from any thread, all else from the event loop's."""

    def __init__(self) -> None:
        self._by_pid: dict[int, Launched] = {}
        self._watched: set[int] = set()  # by id: a descriptor's number may be another's by then
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_pid)

    def find(self, pid: int, exec_id: ExecId) -> Launched | None:
        """The launch of the process ``pid``, if it is still in that exec."""
        launched = self._by_pid.get(pid)
        if launched is None or launched.exec_id != exec_id or _has_ended(launched.pidfd):
            return None
        return launched

    def remember(self, launched: Launched, loop: asyncio.AbstractEventLoop) -> bool:
        """Keep it until it ends; ``launched.pidfd`` is closed then. False if there are too many already."""
        with self._lock:
            before = self._by_pid.get(launched.pid)
            if before is None and len(self._by_pid) >= MOST:
                return False
            self._by_pid[launched.pid] = launched
        loop.call_soon_threadsafe(self._watch, loop, launched, before)
        return True

    def forget(self, launched: Launched, loop: asyncio.AbstractEventLoop) -> None:
        """It is not to be known any more."""
        with self._lock:
            if self._by_pid.get(launched.pid) is launched:
                del self._by_pid[launched.pid]
        if id(launched) in self._watched:
            self._watched.remove(id(launched))
            loop.remove_reader(launched.pidfd)
            os.close(launched.pidfd)

    def _watch(self, loop: asyncio.AbstractEventLoop, launched: Launched, before: Launched | None) -> None:
        if before is not None:
            self.forget(before, loop)
        self._watched.add(id(launched))
        # A pidfd can be read once its process has ended (pidfd_open(2)).
        loop.add_reader(launched.pidfd, self.forget, launched, loop)


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
