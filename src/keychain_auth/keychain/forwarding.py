"""What every keychain behind threads has in common: its operations are functions that block, made somewhere else.

Contract: a change that was asked for is made even if nobody waits for it any more, because it is on record by then. How
an operation gets into a thread, and how long it may take, the subclass says: ``_look`` and ``_made``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from keychain_auth.errors import KeychainError
from keychain_auth.model import Item

T = TypeVar("T")
Items = Callable[..., list[Item]]
Change = Callable[..., None]


class Looks(Protocol):
    """Functions with the arguments of Keychain's methods, and perhaps more, which the subclass gives them."""

    answer_bytes: int

    @property
    def read(self) -> Items:
        """See Keychain."""

    @property
    def read_prefix(self) -> Items:
        """See Keychain."""

    @property
    def search(self) -> Items:
        """See Keychain."""

    @property
    def services(self) -> Callable[..., list[str]]:
        """See Keychain."""


class Changes(Protocol):
    """The same for what changes something. Nobody keeps a history, so the program is not told."""

    @property
    def write(self) -> Change:
        """See Keychain."""

    @property
    def delete(self) -> Change:
        """See Keychain."""


class ForwardingKeychain(ABC):
    """``looks`` and ``changes``: the operations. A subclass adds ``probe``, ``health`` and ``close``."""

    def __init__(self, looks: Looks, changes: Changes) -> None:
        self._looks = looks
        self._changes = changes
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them only weakly
        self._closed = False

    @abstractmethod
    async def _look(self, work: Callable[..., T]) -> T:
        """The result of ``work``, in time or not at all."""

    @abstractmethod
    async def _made(self, work: Change) -> None:
        """``work`` is done: awaited to its end."""

    @property
    def answer_bytes(self) -> int:
        """What one answer may gather (``budget``)."""
        return self._looks.answer_bytes

    @answer_bytes.setter
    def answer_bytes(self, most: int) -> None:
        self._looks.answer_bytes = most

    async def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        return await self._look(partial(self._looks.read, service, targets, attributes))

    def read_now(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:  # noqa: B027
        """See Keychain. It always takes waiting."""

    async def read_prefix(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        return await self._look(partial(self._looks.read_prefix, service, prefixes, attributes))

    async def search(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        return await self._look(partial(self._looks.search, service, prefixes, attributes))

    async def services(self) -> list[str]:
        """See Keychain."""
        return await self._look(self._looks.services)

    async def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> None:
        """See Keychain. There is no history, so ``program`` is not kept."""
        await self._change(partial(self._changes.write, service, entries, attributes))

    async def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        """See Keychain."""
        await self._change(partial(self._changes.delete, service, targets, attributes))

    async def _change(self, work: Change) -> None:
        task = asyncio.ensure_future(self._made(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    def _require_open(self) -> None:
        if self._closed:
            raise KeychainError("this keychain is closed", hint="keychain-auth start")
