"""A keychain as one user of the machine sees it: the services of that user, and those that are shared.

Contract: see ``policy.users``. Nothing that a client can name leads to another user's secrets. What it does not
promise: anything about who else can look into the storage behind it. With a quota, each user, and each shared service,
stores as much as that allows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

from keychain_auth.keychain.base import Keychain, Look, Recalled, Remembering
from keychain_auth.keychain.quota import Quota
from keychain_auth.model import Item
from keychain_auth.policy.users import own_prefix, stored_name


class OwnedKeychain:
    """See Keychain. ``shared`` says which services are shared at this moment."""

    def __init__(
        self, keychain: Keychain, uid: int, shared: Callable[[], Collection[str]], quota: Quota | None = None
    ) -> None:
        self._keychain = keychain
        self._uid = uid
        self._shared = shared
        self._quota = quota

    def _name(self, service: str) -> str:
        return stored_name(service, self._uid, self._shared())

    def read_now(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item] | None:
        """See Keychain."""
        return self._keychain.read_now(self._name(service), targets, attributes)

    def read(
        self, service: str, targets: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        return self._keychain.read(self._name(service), targets, attributes)

    def read_prefix(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        return self._keychain.read_prefix(self._name(service), prefixes, attributes)

    def search(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        return self._keychain.search(self._name(service), prefixes, attributes)

    def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> Coroutine[Any, Any, None]:
        """See Keychain."""
        name = self._name(service)
        if self._quota is None:
            return self._keychain.write(name, entries, attributes, program)
        return self._write_within(self._quota, name, entries, attributes, program)

    async def _write_within(
        self, quota: Quota, name: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str
    ) -> None:
        owner = own_prefix(self._uid)
        async with quota.room(owner if name.startswith(owner) else name, name, entries, attributes):
            await self._keychain.write(name, entries, attributes, program)

    def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> Coroutine[Any, Any, None]:
        """See Keychain."""
        return self._keychain.delete(self._name(service), targets, attributes)

    def recall(self, look: Look, service: str, names: Sequence[str], attributes: Mapping[str, str]) -> Recalled | None:
        """See Remembering; None too where the keychain behind it does not."""
        kept = self._keychain
        return kept.recall(look, self._name(service), names, attributes) if isinstance(kept, Remembering) else None

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
