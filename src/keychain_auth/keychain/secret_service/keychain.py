"""The Secret Service as a keychain: one worker thread, and nobody waits longer than they were told.

Contract: as ``keychain.base``, with these differences, which the Secret Service makes (docs/keychains.md):

* A batch is not one transaction: if a step of it fails, the steps before are undone, and an error says if that failed.
* What is durable, the service decides.
* Attributes cannot be called ``service``, ``username``, ``account``, ``application`` or ``xdg:schema``.

Operations are made one after the other. What has not begun after ``seconds`` never begins, and a read is over by then;
a change that began is always awaited to its end, each step of which may take as long. After half a minute without any,
the bus is left, so that no connection and no name is kept for nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.kinds import SecretServiceSettings
from keychain_auth.keychain.secret_service.store import SecretStore
from keychain_auth.model import Item

T = TypeVar("T")
_IDLE_SECONDS = 30.0


class SecretServiceKeychain:
    """``collection``: alias, last part of the path, or label; "" is the default one. ``address``: of the D-Bus session,
    if it is not this process's own. ``names_seconds``: how long names are remembered if no signal comes.
    """

    def __init__(
        self, collection: str = "", *, seconds: float = 5.0, names_seconds: float = 5.0, address: str = ""
    ) -> None:
        self._store = SecretStore(collection, seconds=seconds, names_seconds=names_seconds, address=address)
        self._collection = collection
        self._seconds = seconds
        self._worker = ThreadPoolExecutor(1, "secret-service")
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them only weakly
        self._idle: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def answer_bytes(self) -> int:
        """What one answer may gather (``budget``)."""
        return self._store.answer_bytes

    @answer_bytes.setter
    def answer_bytes(self, most: int) -> None:
        self._store.answer_bytes = most

    async def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        return await self._look(partial(self._store.read, service, targets, attributes))

    def read_now(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        """See Keychain. It always takes waiting."""

    async def read_prefix(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        return await self._look(partial(self._store.read_prefix, service, prefixes, attributes))

    async def search(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        return await self._look(partial(self._store.search, service, prefixes, attributes))

    async def services(self) -> list[str]:
        """See Keychain."""
        return await self._look(self._store.services)

    async def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> None:
        """See Keychain. There is no history, so ``program`` is not kept."""
        await self._change(partial(self._store.write, service, entries, attributes))

    async def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        """See Keychain."""
        await self._change(partial(self._store.delete, service, targets, attributes))

    async def probe(self) -> None:
        """See Keychain."""
        if not self._closed:
            try:
                await self._look(self._store.probe)
            except KeychainError:  # too many before it: what was known stays
                return

    def health(self) -> dict[str, object]:
        """See Keychain: how the collection was when it was asked last."""
        found: dict[str, object] = {"backend": "secret-service", "collection": self._collection or "default"}
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

    async def _look(self, work: Callable[[], T]) -> T:
        """In time, or not at all."""
        deadline = time.monotonic() + self._seconds
        return await self._begun(self._submitted(partial(self._store.within, deadline, work)))

    async def _change(self, work: Callable[[], None]) -> None:
        """It is on record by now: it is made even if nobody waits for it any more."""
        task = asyncio.ensure_future(self._begun(self._submitted(work)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _begun(self, job: Future[T]) -> T:
        """What has not begun in time never begins. What has begun ends by itself, and is awaited."""
        done = asyncio.wrap_future(job)
        try:
            await asyncio.wait({done}, timeout=self._seconds)
        except asyncio.CancelledError:
            done.cancel()
            raise
        if job.cancel():
            raise KeychainError("the Secret Service is busy with what was asked before")
        return await done

    def _submitted(self, work: Callable[[], T]) -> Future[T]:
        if self._closed:
            raise KeychainError("this keychain is closed", hint="keychain-auth start")
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._rest)
        return self._worker.submit(work)

    def _rest(self) -> None:
        self._worker.submit(self._store.disconnect)


def open_keychain(settings: SecretServiceSettings, answer_bytes: int) -> SecretServiceKeychain:
    """As ``kinds`` calls it."""
    keychain = SecretServiceKeychain(
        settings.collection, seconds=settings.seconds, names_seconds=settings.names_seconds
    )
    keychain.answer_bytes = answer_bytes
    return keychain
