"""A storage whose calls block, as a keychain: one worker thread, and nobody waits longer than they were told.

Contract: as ``keychain.base``, as far as the store keeps it. Operations are made one after the other. What has not
begun after ``seconds`` never begins. A read that began and is not over after ``seconds`` more is given up (the
operating system hangs); a change that began is always awaited to its end: it is on record by then.

After half a minute without any, the store is told to let go of what it need not keep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.forwarding import Change, ForwardingKeychain
from keychain_auth.model import Item

T = TypeVar("T")
_IDLE_SECONDS = 30.0


class BlockingStore(Protocol):
    """What the worker thread works with. Its operations are those of ``Keychain``, and raise KeychainError only."""

    answer_bytes: int
    state: str
    problem: str

    def within(self, deadline: float, work: Callable[[], T]) -> T:
        """``work``, one of the operations below, which shall be over by ``deadline`` (``time.monotonic``)."""

    def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""

    def read_prefix(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""

    def search(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""

    def services(self) -> list[str]:
        """See Keychain."""

    def write(self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str]) -> None:
        """See Keychain."""

    def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        """See Keychain."""

    def probe(self) -> None:
        """Bring ``state`` and ``problem`` up to date. Raises nothing."""

    def disconnect(self) -> None:
        """Let go of what the next operation can get again."""

    def close(self) -> None:
        """Let go for good."""


class ThreadedKeychain(ForwardingKeychain):
    """``store`` in a thread. ``backend``: the kind of keychain; ``called``: what people call it; ``about``: further
    facts for ``health``."""

    def __init__(
        self,
        store: BlockingStore,
        backend: str,
        called: str,
        *,
        seconds: float,
        about: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(store, store)
        self._store = store
        self._backend = backend
        self._called = called
        self._about = dict(about or {})
        self._seconds = seconds
        self._worker = ThreadPoolExecutor(1, backend)
        self._idle: asyncio.TimerHandle | None = None

    async def probe(self) -> None:
        """See Keychain."""
        if not self._closed:
            try:
                await self._look(self._store.probe)
            except KeychainError:  # too many before it: what was known stays
                return

    def health(self) -> dict[str, object]:
        """See Keychain: how the storage was when it was asked last."""
        found: dict[str, object] = {"backend": self._backend, **self._about}
        found["state"] = "closed" if self._closed else self._store.state
        if self._store.problem:
            found["problem"] = self._store.problem
        return found

    async def close(self) -> None:
        """See Keychain. Waits for what is under way, which ends by itself."""
        if self._closed:
            return
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        await asyncio.wrap_future(self._worker.submit(self._store.close))
        self._worker.shutdown(wait=False)

    async def _look(self, work: Callable[..., T]) -> T:
        """In time, or not at all."""
        deadline = time.monotonic() + self._seconds
        job = self._submitted(partial(self._store.within, deadline, work))
        done = await self._begun(job)
        try:
            async with asyncio.timeout(self._seconds):
                return await done
        except TimeoutError:
            raise KeychainError(f"{self._called} does not answer") from None

    async def _made(self, work: Change) -> None:
        await (await self._begun(self._submitted(work)))

    async def _begun(self, job: Future[T]) -> asyncio.Future[T]:
        """What has not begun in time never begins. What has begun (or is over) is the result, to be awaited."""
        done = asyncio.wrap_future(job)
        try:
            await asyncio.wait({done}, timeout=self._seconds)
        except asyncio.CancelledError:
            done.cancel()
            raise
        if job.cancel():
            raise KeychainError(f"{self._called} is busy with what was asked before")
        return done

    def _submitted(self, work: Callable[[], T]) -> Future[T]:
        self._require_open()
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._rest)
        return self._worker.submit(work)

    def _rest(self) -> None:
        self._worker.submit(self._store.disconnect)


__all__ = ["BlockingStore", "ThreadedKeychain"]
