"""A keyring's item as the keeper of the vault's key: what the keyrings of all systems have in common.

Contract: a key is in memory only until ``commit``, which reads it back before it says that it is kept. What an item
holds counts only if it is a key with the id that the slot names.

What it does not promise: anything about who can read the item. Each keyring says that itself.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar

from keychain_auth.crypto.aead import KEY_BYTES
from keychain_auth.crypto.envelope import Key, Params
from keychain_auth.crypto.kdf import subkey
from keychain_auth.errors import VaultError, VaultKeyMissing

SERVICE = "keychain-auth"
LABEL = "key of the keychain-auth vault"
"""How the item is called, for people who look into their keyring."""


class ItemProtector(ABC):
    """A protector but for how one keyring keeps, finds and removes a text under an account's name."""

    kind: ClassVar[str]
    asked = False
    keyring: ClassVar[str]
    """What a person calls it: "keychain"."""
    key_id_label: ClassVar[str]
    """What the id of a key is derived with. It never changes: the id stands in slots and items."""

    def __init__(self) -> None:
        self._prepared: bytes | None = None

    @abstractmethod
    def keep(self, account: str, text: bytes) -> Collection[bytes]:
        """Store the item; the texts that the keyring has for ``account`` then. Raises VaultError."""

    @abstractmethod
    def find(self, account: str) -> Collection[bytes]:
        """The texts that the keyring has for ``account``. Raises VaultKeyMissing if it does not say."""

    @abstractmethod
    def remove(self, account: str) -> None:
        """Remove the item, if it is there. Raises VaultError."""

    def present(self) -> bool:
        """Never: a first start does not look into keyrings."""
        return False

    def create(self) -> tuple[Params, Key]:
        """A new key, in memory only until ``commit``."""
        self._prepared = secrets.token_bytes(KEY_BYTES)
        return {"key_id": self._key_id(self._prepared)}, self._prepared

    def commit(self) -> None:
        """Store the item, and read it back. Raises VaultError."""
        if self._prepared is None:
            raise RuntimeError("commit() comes after create()")
        key, self._prepared = self._prepared, None
        if key not in _keys(self.keep(_account(self._key_id(key)), base64.b64encode(key))):
            raise VaultError(f"the {self.keyring} did not keep the key", hint="keychain-auth protect list")

    def withdraw(self, params: Params) -> None:
        """Remove the item, if it is there. Raises VaultError."""
        self.remove(_account(params.get("key_id", "")))

    def unwrap_key(self, params: Params) -> Key:
        """The key in the item. Raises VaultKeyMissing: a locked keyring, none, or no such item."""
        key_id = params.get("key_id", "")
        for key in _keys(self.find(_account(key_id))):
            if self._key_id(key) == key_id:
                return bytearray(key)
        raise VaultKeyMissing(f"the {self.keyring} does not hold the vault's key", hint="keychain-auth protect list")

    def _key_id(self, key: bytes) -> str:
        """16 hex digits that name the key and tell nothing about it."""
        return subkey(key, b"", self.key_id_label)[:8].hex()


def _account(key_id: str) -> str:
    return f"vault key {key_id}"


def _keys(texts: Collection[bytes]) -> list[bytes]:
    keys = []
    for text in texts:
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            continue
        if len(key) == KEY_BYTES:
            keys.append(key)
    return keys
