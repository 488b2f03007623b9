"""Hashes of files: remembered where that is sound, made in threads, once for each file however many wait.

Two lanes, so that strangers wait for strangers: what lies at a registered path never queues behind the 900 MiB file
that somebody unknown connects from, not even when it is the same file (a hard link). Strangers are hashed one at a
time, with a rest after each piece as long as the piece took: half of one processor at most, whatever they bring. What
nobody waits for any more is not hashed to its end.

hashlib releases the interpreter's lock while it works. The threads keep the usual priority on purpose: a thread of low
priority (nice, SCHED_IDLE) that is preempted while it holds that lock stops the event loop until it runs again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from keychain_auth.daemon.attesting.workers import Overdue, Workers
from keychain_auth.identity.facts import FileKey
from keychain_auth.platform.base import Digest, FileTooLarge, Pace, PeerGone

_REMEMBERED = 4096
Hash = Callable[[int, Pace], Digest]
"""Hashes one file: called with the size limit and the pace, in a thread."""


Wanted = Callable[[], bool]
_WANTED_SECONDS = 0.5


class _Abandoned(Exception):
    """Nobody waits for this hash any more."""


class _Task:
    """One file that is being hashed, or waits to be."""

    __slots__ = ("outcome", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.outcome: asyncio.Future[Digest | Exception]

    def check(self) -> None:
        if not self.waiting:
            raise _Abandoned


class Lane:
    """Threads of one class of files, and what they found out."""

    def __init__(self, name: str, threads: int, limit: int, *, gentle: bool) -> None:
        self._workers = Workers(name, threads)
        self._limit = limit
        self._gentle = gentle
        self._remembered: dict[FileKey, Digest] = {}
        self._running: dict[FileKey, _Task] = {}

    def close(self) -> None:
        """Stop; does not wait."""
        self._workers.close()

    def remembered(self, key: FileKey, keys: Collection[bytes] = ()) -> Digest | None:
        """The digest of this version of the file, if it is known, and known whether one of ``keys`` signed it."""
        known = self._remembered.get(key)
        return known if known is not None and known.answers(keys) else None

    async def digest(
        self, key: FileKey, make: Hash, seconds: float, keys: Collection[bytes] = (), wanted: Wanted | None = None
    ) -> Digest:
        """The digest of the file ``key``, by ``make`` (which tries ``keys``) if nobody else hashes it already.

        ``wanted`` is asked now and then while this waits; PeerGone if it says no. Raises Overdue after ``seconds``;
        PeerGone if it is another file by now; FileTooLarge, OSError.
        """
        until = time.monotonic() + seconds
        while (known := self.remembered(key, keys)) is None:
            first = key not in self._running
            outcome = await self._outcome(key, make, until, wanted)
            if isinstance(outcome, Digest):
                if outcome.key != key:
                    raise PeerGone("its file changed while it was hashed")
                if outcome.answers(keys):
                    return outcome
                continue  # it was hashed for somebody who came before the newest signer was trusted
            # It was read through another peer, which is gone, or for one that left: then try with this one.
            if not isinstance(outcome, _Abandoned) and (first or not isinstance(outcome, PeerGone | OSError)):
                raise outcome
        return known

    async def _outcome(self, key: FileKey, make: Hash, until: float, wanted: Wanted | None) -> Digest | Exception:
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = _Task()
            task.outcome = asyncio.ensure_future(self._hash(key, make, task))
        task.waiting += 1
        try:
            while not task.outcome.done():
                if (left := until - time.monotonic()) <= 0:
                    raise Overdue
                # Outside of a task asyncio.timeout cannot be used (see ``eager``).
                await asyncio.wait((task.outcome,), timeout=min(left, _WANTED_SECONDS))
                if not task.outcome.done() and wanted is not None and not wanted():
                    raise PeerGone("it closed the connection before it was verified")
        finally:
            task.waiting -= 1
        return task.outcome.result()

    async def _hash(self, key: FileKey, make: Hash, task: _Task) -> Digest | Exception:
        try:
            digest = await self._workers.run(lambda: _run(make, self._limit, task, self._gentle))
        except Exception as error:  # noqa: BLE001 - for those who wait, if any still does
            return error
        finally:
            del self._running[key]
        if digest.keep:
            while len(self._remembered) >= _REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest.key] = digest
        return digest


class Hasher:
    """SHA-256 by file version, in two lanes. ``limit`` is the size in bytes up to which a file is hashed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._registered = Lane("hash-registered", 2, limit, gentle=False)
        self._strangers = Lane("hash-stranger", 1, limit, gentle=True)

    def close(self) -> None:
        """Stop the threads; what waits is dropped."""
        self._registered.close()
        self._strangers.close()

    def remembered(self, key: FileKey, keys: Collection[bytes] = ()) -> Digest | None:
        """See ``Lane.remembered``."""
        return self._registered.remembered(key, keys) or self._strangers.remembered(key, keys)

    async def digest(
        self,
        key: FileKey,
        make: Hash,
        registered: bool,
        seconds: float,
        keys: Collection[bytes] = (),
        wanted: Wanted | None = None,
    ) -> Digest:
        """See ``Lane.digest``. A file above the limit does not even wait for a thread."""
        if key.size > self._limit:
            raise FileTooLarge(f"{key.size} bytes; the daemon hashes up to {self._limit}")
        known = self.remembered(key, keys)
        lane = self._registered if registered else self._strangers
        return known or await lane.digest(key, make, seconds, keys, wanted)


def _run(make: Hash, limit: int, task: _Task, gentle: bool) -> Digest:
    task.check()
    if not gentle:
        return make(limit, task.check)
    began = time.monotonic()

    def rest() -> None:
        nonlocal began
        task.check()
        time.sleep(min(1.0, time.monotonic() - began))
        began = time.monotonic()

    return make(limit, rest)
