"""What every storage behind the daemon can do.

Contract:
* The daemon has decided before it calls: a keychain knows no callers and no policy.
* ``write`` and ``delete`` are one durable transaction each: when they return, all of it survives a power
  cut; when they raise, none of it was applied as far as this process can see.
* What does not exist is left out of a read, and deleting it succeeds.
* A name that holds NUL or a lone surrogate is refused in a change, and names nothing in a read (``keychain.names``).
* Failures raise ``KeychainError`` (or a subclass). No error holds a value. What is locked says so (reason
  ``keychain_locked``) within a second, and never asks a person by itself.
* A storage that was gone is picked up again by the same keychain, without being told. One that is elsewhere raises
  KeychainGone as long as it does not answer at all.
* What one read or search gathers has a bound (``budget``): beyond it AnswerExceedsLimit, and nothing is answered.
* Returned items are shared, not copied: nobody may change their attributes.

``keychain_auth.testing`` has all of this as tests, which every keychain passes. A storage that cannot promise one of
these points says so at the top of its own file, and in docs/keychains.md.

All operations are coroutines, so that a slow storage may use a thread. A storage may promise more: the
vault's short reads never suspend. Changes always do: their answers must not share a turn of the loop with answers
whose records are still to be written (see ``daemon.serving.turn``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from keychain_auth.model import Item


class Keychain(Protocol):
    """Services hold targets; a target has one value and optional attributes (all of them text)."""

    async def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """The items with exactly these names, in the order of ``targets``, with values.

        Left out: what does not exist, and what does not have every pair of ``attributes``.
        """
        ...

    def read_now(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item] | None:
        """As ``read``, if that takes no waiting; else None, and ``read`` is to be called."""
        ...

    async def read_prefix(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """The items that begin with one of ``prefixes``, each once, sorted by target, with values."""
        ...

    async def search(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """As ``read_prefix``, without values. No prefixes at all means the whole service."""
        ...

    async def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> None:
        """Store every (target, value), replacing what was there, with ``attributes`` for each.

        ``program``: the path of who asked for it, for storages that keep a history.
        """
        ...

    async def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        """Remove the items with exactly these names that have every pair of ``attributes``."""
        ...

    async def services(self) -> list[str]:
        """The services that hold at least one item, sorted."""
        ...

    async def probe(self) -> None:
        """Look how the storage is, so that ``health`` knows. Raises nothing."""
        ...

    def health(self) -> dict[str, object]:
        """Facts for ``status``, as far as they are known: JSON types only, never a secret or a name of one.

        ``backend`` is the kind of keychain.
        """
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of everything. Afterwards every operation fails."""
        ...


Look = Literal["read", "read_prefix", "search"]


class Recalled(NamedTuple):
    """What a storage answered before. ``age``: for how long it may have been otherwise since, in seconds."""

    items: list[Item]
    age: float


@runtime_checkable
class Remembering(Protocol):
    """A storage that is elsewhere, and keeps what it answered lately, sealed, for when it is gone."""

    def recall(self, look: Look, service: str, names: Sequence[str], attributes: Mapping[str, str]) -> Recalled | None:
        """As the method of Keychain called ``look``, by what is remembered; None if that is not enough for all of it.

        Raises AnswerExceedsLimit. It asks nobody: whether it may be asked at all is for the daemon to decide.
        """
        ...

    def forget(self) -> None:
        """Everything that is remembered."""
        ...
