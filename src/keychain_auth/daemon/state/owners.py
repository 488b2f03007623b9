"""Which account each user id was, when its first secret was stored: so that a number that is given again gets nothing.

The kernel knows users by number, and a number is free again when its account is removed. The vault keeps, among its own
rows, the account's name beside each number that stores something. Whoever has the number later under another name is
refused (``user_not_allowed``), until root says whether that is the same person (``keychain-auth owner``).

Contract: the name is durable before the first secret of a number is stored, and looked up for each new connection.
Where nothing is stored under a number, its new account simply takes its place. Secrets of before this version belong to
the account that asks for them first.

What it does not promise: to tell two accounts with the same name and the same number; nor to ask a directory that does
not answer: an account without a name is called by its number, and refused like another one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import NamedTuple

from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.errors import KeychainError, VaultDamaged
from keychain_auth.keychain.base import Keychain
from keychain_auth.keychain.vault import Vault
from keychain_auth.keychain.vault.format import OWN_OWNERS
from keychain_auth.policy.users import own_prefix
from keychain_auth.reasons import USER_NOT_ALLOWED


class AnotherAccount(KeychainError):
    """What lies under this user id was stored by another account. The message says by which."""

    reason = USER_NOT_ALLOWED


class Owners:
    """Names by number. Belongs to the event loop."""

    def __init__(self, safe: Safe, keychain: Keychain) -> None:
        """``keychain``: where all users' secrets are."""
        self._safe = safe
        self._keychain = keychain
        self._names: dict[int, str] = {}
        self._one_by_one = asyncio.Lock()

    @property
    def names(self) -> Mapping[int, str]:
        """The account that each number was; of a vault that was never open: nothing."""
        return self._names

    def opened(self, vault: Vault) -> None:
        """The vault was opened: what it knows counts. Raises KeychainError."""
        text = vault.own(OWN_OWNERS)
        stored = {} if text is None else json.loads(text)
        try:
            self._names = {int(uid): str(name) for uid, name in stored.items()}
        except (AttributeError, ValueError):
            raise VaultDamaged("the owners in the vault are not what they must be") from None

    async def settle(self, uid: int, name: str) -> None:
        """Return when the account ``name`` is the owner of what lies under ``uid``. Raises AnotherAccount,
        KeychainError."""
        async with self._one_by_one:
            known = self._names.get(uid)
            if known == name:
                return
            self._safe.require_open()
            if known is not None and await self._stores(uid):
                raise AnotherAccount(
                    f"what uid {uid} stores belongs to the account {known}, and this one is called {name}",
                    hint=f"keychain-auth --system owner list (then: owner keep {uid}, or owner forget {uid})",
                )
            await self._keep({**self._names, uid: name})

    async def keep(self, uid: int, name: str) -> None:
        """From now on what lies under ``uid`` belongs to the account ``name``. Raises KeychainError."""
        async with self._one_by_one:
            await self._keep({**self._names, uid: name})

    async def forget(self, uid: int) -> None:
        """``uid`` is nobody's any more: the first who stores something under it will own it. Raises KeychainError."""
        async with self._one_by_one:
            await self._keep({number: name for number, name in self._names.items() if number != uid})

    async def services(self, uid: int) -> list[str]:
        """The stored names of what lies under ``uid``. Raises KeychainError."""
        return [name for name in await self._keychain.services() if name.startswith(own_prefix(uid))]

    async def _stores(self, uid: int) -> bool:
        return bool(await self.services(uid))

    async def _keep(self, names: dict[int, str]) -> None:
        await self._safe.vault.keep_own(OWN_OWNERS, json.dumps({str(uid): name for uid, name in names.items()}))
        self._names = names


class Account(NamedTuple):
    """One account, as who may own what lies under its number. See ``keychain.owned.Ownership``."""

    owners: Owners
    uid: int
    name: str

    def is_settled(self) -> bool:
        """See ``Ownership``."""
        return self.owners.names.get(self.uid) == self.name

    async def settle(self) -> None:
        """See ``Ownership``."""
        await self.owners.settle(self.uid, self.name)
