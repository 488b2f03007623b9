"""A desktop keyring (Secret Service) as the keeper of the vault's key: one item in the default collection.

What it stops: whoever has the files without the keyring's password. What it does *not* stop: a program of the same user
while the keyring is open, for the Secret Service asks nobody. It opens with the login, so the vault does too.

Nothing here starts a keyring or shows a prompt: while it is closed, the vault is.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from keychain_auth.crypto.aead import KEY_BYTES
from keychain_auth.crypto.envelope import Key, Params
from keychain_auth.crypto.kdf import subkey
from keychain_auth.errors import VaultError, VaultKeyMissing
from keychain_auth.secret_service.bus import Refused, session_address
from keychain_auth.secret_service.service import TEXT, Gone, Locked, NoSuchObject, Secret, Service

T = TypeVar("T")

KIND = "secret_service"
_MEND = "log in to a desktop with a keyring (D-Bus, the Secret Service), or use another kind of key slot"
_SECONDS = 10.0  # for each piece of work


class SecretServiceItem:
    """The protector of kind ``secret_service``. ``address``: the session bus; empty for this process's own."""

    kind = KIND
    asked = False

    def __init__(self, address: str = "") -> None:
        self._address = address
        self._prepared: bytes | None = None

    def present(self) -> bool:
        """Never: a first start does not look into keyrings."""
        return False

    def create(self) -> tuple[Params, Key]:
        """A new key, in memory only until ``commit``."""
        self._prepared = secrets.token_bytes(KEY_BYTES)
        return {"key_id": _key_id(self._prepared)}, self._prepared

    def commit(self) -> None:
        """Store the item, and read it back. Raises VaultError."""
        if self._prepared is None:
            raise RuntimeError("commit() comes after create()")
        key, self._prepared = self._prepared, None
        attributes = _attributes(_key_id(key))
        text = Secret(base64.b64encode(key), TEXT)

        def store(service: Service) -> list[bytes]:
            where = service.find_collection("")
            service.create(where, "key of the keychain-auth vault", attributes, text, replace=True)
            return _found(service, attributes)

        try:
            kept = self._with(store)
        except VaultKeyMissing as problem:
            raise VaultError(str(problem), hint=problem.hint) from None
        if key not in kept:
            raise VaultError("the keyring did not keep the key", hint="keychain-auth protect list")

    def withdraw(self, params: Params) -> None:
        """Remove the item, if it is there. Raises VaultError."""

        def remove(service: Service) -> None:
            for path in _paths(service, _attributes(params.get("key_id", ""))):
                service.delete(path)

        try:
            self._with(remove)
        except VaultKeyMissing as problem:
            raise VaultError(f"the item stays in the keyring: {problem}", hint=problem.hint) from None

    def unwrap_key(self, params: Params) -> Key:
        """The key in the item. Raises VaultKeyMissing: no keyring, a closed one, or no such item."""
        key_id = params.get("key_id", "")
        for key in self._with(lambda service: _found(service, _attributes(key_id))):
            if _key_id(key) == key_id:
                return bytearray(key)
        raise VaultKeyMissing("the keyring does not hold the vault's key", hint="keychain-auth protect list")

    def _with(self, work: Callable[[Service], T]) -> T:
        """``work`` with the keyring; what is wrong with it as VaultKeyMissing."""
        try:
            service = Service(self._address or session_address(), time.monotonic() + _SECONDS)
        except Gone as gone:
            raise VaultKeyMissing(f"the keyring cannot be asked: {gone}", hint=_MEND) from None
        try:
            return work(service)
        except Locked:
            raise VaultKeyMissing("the keyring is locked", hint="log in, then: keychain-auth unlock") from None
        except (Gone, NoSuchObject, Refused) as problem:
            raise VaultKeyMissing(f"the keyring cannot be asked: {problem}", hint=_MEND) from None
        finally:
            service.close()


def _paths(service: Service, attributes: dict[str, str]) -> list[str]:
    """The items with these attributes. Raises Locked if the collection is."""
    where = service.find_collection("")
    if service.is_locked(where):
        raise Locked
    return service.search(where, [attributes])[0]


def _found(service: Service, attributes: dict[str, str]) -> list[bytes]:
    """The keys in all items with these attributes."""
    keys = []
    for secret in service.secrets(_paths(service, attributes)).values():
        try:
            key = base64.b64decode(secret.value, validate=True)
        except binascii.Error:
            continue
        if len(key) == KEY_BYTES:
            keys.append(key)
    return keys


def _attributes(key_id: str) -> dict[str, str]:
    name = f"vault key {key_id}"
    return {"service": "keychain-auth", "username": name, "account": name}


def _key_id(key: bytes) -> str:
    """16 hex digits that name the key and tell nothing about it."""
    return subkey(key, b"", "keyring key id")[:8].hex()
