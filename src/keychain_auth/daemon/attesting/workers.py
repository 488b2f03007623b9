"""Threads for looks that may take long, or for ever.

Contract:
* ``run`` returns what the work returned, raises what it raised, or raises Overdue after the given time, in which
  waiting for a thread counts. Nobody waits longer than that for anything.
* Work that is overdue before it began never begins.
* A thread that is still in overdue work is lost until the work ends: a process can keep a read of its command line
  waiting (a page of its memory on FUSE), and no signal of ours gets the thread out of the kernel. Another thread takes
  its place, at most ``spare`` times. Work for an owner of whose ``lost_each`` are lost already is overdue at once.

Why not ThreadPoolExecutor: it has no deadline, and a thread that hangs is gone for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Overdue(Exception):
    """The work was not done in time."""


class _Job:
    """One piece of work. ``future`` belongs to the event loop, the flags to the lock of the workers."""

    __slots__ = ("ended", "future", "left", "owner", "running", "work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any], owner: int | None) -> None:
        self.work = work
        self.owner = owner
        self.future = future
        self.running = False
        self.ended = False
        self.left = False  # nobody waits for it any more


class Workers:
    """``threads`` at work at most, beside those that are lost; they are started when they are needed.

    ``prepare`` is called in each new thread first.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        *,
        spare: int = 0,
        lost_each: int | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._lost_each = lost_each
        self._lost_of: Counter[int | None] = Counter()
        self._threads = threads
        self._spare = spare
        self._prepare = prepare
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._alive = 0
        self._idle = 0
        self._lost = 0
        self._closed = False

    async def run(self, work: Callable[[], T], seconds: float | None = None, owner: int | None = None) -> T:
        """What ``work`` returns, made in one of the threads. Raises Overdue after ``seconds``, if there are any."""
        loop = asyncio.get_running_loop()
        if owner is not None and self._lost_each is not None and self._lost_of[owner] >= self._lost_each:
            raise Overdue
        job = _Job(work, loop.create_future(), owner)
        self._submit(job)
        timer = loop.call_later(seconds, _expire, job.future) if seconds is not None else None
        try:
            return await job.future  # type: ignore[no-any-return]
        finally:
            if timer is not None:
                timer.cancel()
            self._leave(job)

    def close(self) -> None:
        """What runs is finished, what waits is dropped. Does not wait."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _submit(self, job: _Job) -> None:
        with self._changed:
            self._waiting.append(job)
            if self._idle >= len(self._waiting):
                self._changed.notify()
                return
            self._start_one()

    def _start_one(self) -> None:
        if self._alive < self._threads + min(self._lost, self._spare):
            self._alive += 1
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def _leave(self, job: _Job) -> None:
        """Its caller has the result, or waits no longer."""
        with self._changed:
            job.left = True
            if job.ended:
                return
            if not job.running:
                with contextlib.suppress(ValueError):  # ``close`` dropped it
                    self._waiting.remove(job)
                return
            self._lost += 1
            self._lost_of[job.owner] += 1
            if self._waiting:
                self._start_one()

    def _serve(self) -> None:
        if self._prepare is not None:
            self._prepare()
        while (job := self._next()) is not None:
            result, error = None, None
            try:
                result = job.work()
            except BaseException as fault:  # noqa: BLE001 - it is raised where it is awaited
                error = fault
            self._done(job)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                job.future.get_loop().call_soon_threadsafe(_settle, job.future, result, error)

    def _next(self) -> _Job | None:
        with self._changed:
            while True:
                if self._closed or self._alive > self._threads + min(self._lost, self._spare):
                    self._alive -= 1
                    return None
                if self._waiting:
                    job = self._waiting.popleft()
                    job.running = True
                    return job
                self._idle += 1
                self._changed.wait()
                self._idle -= 1

    def _done(self, job: _Job) -> None:
        with self._changed:
            job.ended = True
            if job.left:
                self._lost -= 1
                self._lost_of[job.owner] -= 1


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(Overdue())


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
