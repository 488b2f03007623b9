"""Who changes the vault next: one change after the other, in the order in which they come here.

Contract:
* ``async with order`` is a change alone. Batches (``write``) that wait one behind the other are made durable together,
  by one fsync; each is there whole or not at all, and each of them fails if the transaction that they share does.
* A batch that is being committed is finished, and published, whoever is cancelled. One that was not begun when its
  caller was cancelled is not made.

What it does not promise: fairness by caller. Who comes first is first.

All of it belongs to the event loop, but ``commit``, which runs in the thread of ``worker``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.outcome import Outcome
from keychain_auth.keychain.vault.index import Record
from keychain_auth.keychain.vault.journal import Batch
from keychain_auth.keychain.vault.reading import is_closed
from keychain_auth.keychain.vault.worker import Worker

_TOGETHER = 1000
"""Rows after which no further batch joins a transaction: what one change holds up has a bound."""

Commit = Callable[[Sequence[Batch]], list[list[Record]]]


class _Group:
    """Batches of one transaction, and who waits for each. ``done`` is locked until the thread is through."""

    __slots__ = ("batches", "done", "error", "published", "records", "waiters")

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.waiters: list[Outcome] = []
        self.records: list[list[Record]] = []
        self.error: BaseException | None = None
        self.published = False
        self.done = threading.Lock()
        self.done.acquire()

    def wait(self) -> None:
        """Until the thread is through."""
        with self.done:
            pass


class Order:
    """``begin`` is called with a batch whose turn has come, and may raise KeychainError; ``commit`` with all of a
    transaction; ``publish`` when that is durable, with what is to be known of its rows."""

    def __init__(
        self,
        worker: Worker,
        begin: Callable[[Batch], None],
        commit: Commit,
        publish: Callable[[Sequence[Batch], Sequence[list[Record]]], None],
    ) -> None:
        self._worker = worker
        self._begin = begin
        self._commit = commit
        self._publish = publish
        self._busy = False
        self._queue: deque[tuple[Outcome, Batch | None]] = deque()
        self._under_way: _Group | None = None

    async def __aenter__(self) -> None:
        if not self._busy:
            self._busy = True
            return
        turn = self._queued(None)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had come already
                self._next()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._next()

    async def write(self, batch: Batch) -> None:
        """Return when ``batch`` is durable. Raises KeychainError: then nothing of it is there."""
        waiter = self._queued(batch)
        if not self._busy:
            self._next()
        try:
            await waiter
        except asyncio.CancelledError:
            group = self._under_way
            if group is not None and waiter in group.waiters:
                # Perhaps the loop ends, and nobody would be left to publish what is on the disk.
                group.wait()
                self._committed(group)
            raise

    def close(self) -> None:
        """Who waits, and who comes yet, is refused. Lets go of the vault at once: a cycle of references would keep its
        keys in memory until the collector comes."""
        self._begin, self._commit, self._publish = _refuse, _nothing, _nobody

    def _queued(self, batch: Batch | None) -> Outcome:
        waiter = Outcome()
        self._queue.append((waiter, batch))
        return waiter

    def _next(self) -> None:
        """Let the next ones begin: one alone, or the batches that wait before it."""
        self._busy = False
        queue = self._queue
        if not queue:
            return
        group, rows = _Group(), 0
        while queue and rows < _TOGETHER:
            waiter, batch = queue[0]
            if not waiter.done():
                if batch is None:
                    if not rows:
                        queue.popleft()
                        self._busy = True
                        waiter.settle(None)
                        return
                    break
                rows += self._join(group, batch, waiter)
            queue.popleft()
        if rows:
            self._busy = True
            self._under_way = group
            self._worker.post(partial(self._work, group, group.waiters[0].get_loop()))

    def _join(self, group: _Group, batch: Batch, waiter: Outcome) -> int:
        try:
            self._begin(batch)
        except KeychainError as error:
            waiter.get_loop().call_soon(waiter.settle, error)  # not now: who hears of it may come here again
            return 0
        group.batches.append(batch)
        group.waiters.append(waiter)
        return len(batch.values)

    def _work(self, group: _Group, loop: asyncio.AbstractEventLoop) -> None:
        """In the worker's thread."""
        try:
            group.records = self._commit(group.batches)
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            group.error = error
        group.done.release()
        with contextlib.suppress(RuntimeError):  # the loop has ended, and who was cancelled by that has published it
            loop.call_soon_threadsafe(self._committed, group)

    def _committed(self, group: _Group) -> None:
        if group.published:
            return
        group.published = True
        self._under_way = None
        if group.error is None:
            try:
                self._publish(group.batches, group.records)
            except Exception as fault:  # noqa: BLE001 - a fault of ours, and those who wait must hear of it
                group.error = fault
        self._next()  # first: while the thread is at work for those, these hear of theirs
        for waiter in group.waiters:
            waiter.settle(group.error)


def _refuse(_: Batch) -> None:
    raise is_closed()


def _nothing(_: Sequence[Batch]) -> list[list[Record]]:
    return []


def _nobody(_: Sequence[Batch], __: Sequence[list[Record]]) -> None:
    pass
