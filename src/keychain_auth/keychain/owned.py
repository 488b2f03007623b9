"""A keychain as one user of the machine sees it: the services of that user, and those that are shared.

Contract: see ``policy.users``. Nothing that a client can name leads to another user's secrets. What it does not
promise: anything about who else can look into the storage behind it. With a quota, each user, and each shared service,
stores as much as that allows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from keychain_auth.keychain.base import Keychain, Look, Recalled, Remembering
from keychain_auth.keychain.quota import Quota
from keychain_auth.model import Item
from keychain_auth.policy.users import own_prefix, stored_name

T = TypeVar("T")


class Ownership(Protocol):
    """Whether what lies under a number belongs to the account that has it now."""

    def is_settled(self) -> bool:
        """Known to belong to it."""

    async def settle(self) -> None:
        """Return once it is known. Raises KeychainError if it belongs to another one."""


class OwnedKeychain:
    """See Keychain. ``shared`` says which services are shared at this moment. ``ownership`` is settled before anything
    of the user's own is looked at."""

    def __init__(
        self,
        keychain: Keychain,
        uid: int,
        shared: Callable[[], Collection[str]],
        quota: Quota | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        self._keychain = keychain
        self._uid = uid
        self._shared = shared
        self._quota = quota
        self._ownership = ownership

    def _name(self, service: str) -> str:
        return stored_name(service, self._uid, self._shared())

    def read_now(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item] | None:
        """See Keychain."""
        name = self._name(service)
        if self._unsettled(name) is not None:
            return None
        return self._keychain.read_now(name, targets, attributes)

    def read(
        self, service: str, targets: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        name = self._name(service)
        return self._settled(name, lambda: self._keychain.read(name, targets, attributes))

    def read_prefix(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        name = self._name(service)
        return self._settled(name, lambda: self._keychain.read_prefix(name, prefixes, attributes))

    def search(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        name = self._name(service)
        return self._settled(name, lambda: self._keychain.search(name, prefixes, attributes))

    def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> Coroutine[Any, Any, None]:
        """See Keychain."""
        name, quota = self._name(service), self._quota
        if quota is None:
            return self._settled(name, lambda: self._keychain.write(name, entries, attributes, program))
        return self._settled(name, lambda: self._write_within(quota, name, entries, attributes, program))

    async def _write_within(
        self, quota: Quota, name: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str
    ) -> None:
        owner = own_prefix(self._uid)
        async with quota.room(owner if name.startswith(owner) else name, name, entries, attributes):
            await self._keychain.write(name, entries, attributes, program)

    def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> Coroutine[Any, Any, None]:
        """See Keychain."""
        name = self._name(service)
        return self._settled(name, lambda: self._keychain.delete(name, targets, attributes))

    def recall(self, look: Look, service: str, names: Sequence[str], attributes: Mapping[str, str]) -> Recalled | None:
        """See Remembering; None too where the keychain behind it does not, or while it is not known whose it is."""
        kept, name = self._keychain, self._name(service)
        if self._unsettled(name) is not None or not isinstance(kept, Remembering):
            return None
        return kept.recall(look, name, names, attributes)

    def _unsettled(self, name: str) -> Ownership | None:
        """What has to be settled before the stored ``name`` is looked at."""
        ownership = self._ownership
        if ownership is None or ownership.is_settled() or not name.startswith(own_prefix(self._uid)):
            return None
        return ownership

    def _settled(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
        ownership = self._unsettled(name)
        return work() if ownership is None else _after(ownership, work)

    def forget(self) -> None:
        """See Remembering: everybody's."""
        if isinstance(self._keychain, Remembering):
            self._keychain.forget()

    async def services(self) -> list[str]:
        """See Keychain."""
        own = own_prefix(self._uid)
        names = await self._keychain.services()
        return sorted({name.removeprefix(own) for name in names if name.startswith(own) or name in self._shared()})

    async def probe(self) -> None:
        """See Keychain."""
        await self._keychain.probe()

    def health(self) -> dict[str, object]:
        """See Keychain."""
        return self._keychain.health()

    async def close(self) -> None:
        """Nothing of its own: the keychain behind it is its owner's to close."""


async def _after(ownership: Ownership, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    await ownership.settle()
    return await work()
