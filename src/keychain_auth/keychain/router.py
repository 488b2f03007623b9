"""Several keychains as one: each service lies in the keychain that its route names.

Contract: as ``keychain.base``, for each service by the keychain that it lies in. Beyond that

* A service that has targets in a keychain which its route does not name is not there for anybody who asks here. Who
  wants to see it asks ``named``.
* ``services`` answers for all keychains, or fails naming the one that could not.
* A keychain that no route names is opened when somebody asks for it by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from keychain_auth.errors import KeychainError, NotFound
from keychain_auth.keychain.base import Keychain, Look, Recalled, Remembering
from keychain_auth.keychain.kinds import StoreSettings, open_keychain
from keychain_auth.keychain.routes import Routes
from keychain_auth.model import Item

VAULT = "vault"
_PROBE_SECONDS = 1.0


class Router:
    """``stores``: what can be opened beside ``vault``, by name. What a route names is opened here and now.

    ``answer_bytes``: what one answer may gather, for those that are opened here. The vault is its owner's to close.
    Raises KeychainAuthError if a library is missing.
    """

    def __init__(
        self, vault: Keychain, routes: Routes, stores: Mapping[str, StoreSettings], *, answer_bytes: int
    ) -> None:
        self.routes = routes
        self._stores = stores
        self._answer_bytes = answer_bytes
        self._opened: dict[str, Keychain] = {VAULT: vault}
        for name in routes.used():
            self.named(name)

    def named(self, name: str) -> Keychain:
        """The keychain of that name. Raises NotFound, KeychainAuthError if its library is missing."""
        keychain = self._opened.get(name)
        if keychain is None:
            settings = self._stores.get(name)
            if settings is None:
                known = ", ".join([VAULT, *sorted(self._stores)])
                raise NotFound(
                    f"there is no keychain {name!r}; there are: {known}", hint="edit daemon.toml, [keychains]"
                )
            keychain = self._opened[name] = open_keychain(name, settings, self._answer_bytes)
        return keychain

    def of(self, service: str) -> Keychain:
        """The keychain that ``service`` lies in."""
        return self._opened[self.routes.find(service)]

    # --- the keychain -----------------------------------------------------------------------------

    def read_now(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item] | None:
        """See Keychain."""
        return self.of(service).read_now(service, targets, attributes)

    def read(
        self, service: str, targets: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        return self.of(service).read(service, targets, attributes)

    def read_prefix(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        return self.of(service).read_prefix(service, prefixes, attributes)

    def search(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        return self.of(service).search(service, prefixes, attributes)

    def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> Coroutine[Any, Any, None]:
        """See Keychain."""
        return self.of(service).write(service, entries, attributes, program)

    def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> Coroutine[Any, Any, None]:
        """See Keychain."""
        return self.of(service).delete(service, targets, attributes)

    def recall(self, look: Look, service: str, names: Sequence[str], attributes: Mapping[str, str]) -> Recalled | None:
        """See Remembering; None too where the keychain of ``service`` does not."""
        keychain = self.of(service)
        return keychain.recall(look, service, names, attributes) if isinstance(keychain, Remembering) else None

    def forget(self) -> None:
        """See Remembering."""
        for keychain in self._opened.values():
            if isinstance(keychain, Remembering):
                keychain.forget()

    async def services(self) -> list[str]:
        """See Keychain."""
        found: set[str] = set()
        for name in self.routes.used():
            try:
                services = await self._opened[name].services()
            except KeychainError as error:
                if len(self.routes.used()) > 1:
                    raise type(error)(f"{name}: {error}", hint="keychain-auth list-secrets --keychain NAME") from None
                raise
            found.update(service for service in services if self.routes.find(service) == name)
        return sorted(found)

    async def probe(self) -> None:
        """See Keychain. Whoever needs longer than a second is answered for by what is known."""
        probes = [asyncio.ensure_future(keychain.probe()) for keychain in self._opened.values()]
        await asyncio.wait(probes, timeout=_PROBE_SECONDS)

    def health(self) -> dict[str, object]:
        """See Keychain: the routes, and of every keychain that is open its own health, by name."""
        return {
            "backend": "router",
            "default": self.routes.default,
            "routes": dict(self.routes.table),
            "keychains": {name: keychain.health() for name, keychain in self._opened.items()},
        }

    async def close(self) -> None:
        """Close what was opened here."""
        others = [keychain for name, keychain in self._opened.items() if name != VAULT]
        await asyncio.gather(*(keychain.close() for keychain in others))
