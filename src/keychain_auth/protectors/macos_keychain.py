"""The keychain of macOS as the keeper of the vault's key: one generic password in the user's default keychain.

What it stops: whoever has the files without the keychain's password. What it does *not* stop: a program of the same
user while the keychain is open, as far as it is Python: macOS trusts the program that made an item, and that is the
interpreter, whatever script it runs.

Nobody is asked anything: while the keychain is locked, the vault is. Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import NoReturn

from keychain_auth.crypto.aead import KEY_BYTES
from keychain_auth.crypto.envelope import Key, Params
from keychain_auth.crypto.kdf import subkey
from keychain_auth.errors import VaultError, VaultKeyMissing
from keychain_auth.native import keychain_services

KIND = "macos_keychain"
_SERVICE = "keychain-auth"
_LABEL = "key of the keychain-auth vault"


class MacosKeychainItem:
    """The protector of kind ``macos_keychain``."""

    kind = KIND
    asked = False

    def __init__(self) -> None:
        self._prepared: bytes | None = None

    def present(self) -> bool:
        """Never: a first start does not look into keychains."""
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
        account = _account(_key_id(key))
        try:
            keychain_services.put(_SERVICE, account, base64.b64encode(key), _LABEL, b"")
            kept = _found(account)
        except OSError as error:
            raise VaultError(f"the keychain does not take the key: {_why(error)}") from None
        if kept != key:
            raise VaultError("the keychain did not keep the key", hint="keychain-auth protect list")

    def withdraw(self, params: Params) -> None:
        """Remove the item, if it is there. Raises VaultError."""
        try:
            keychain_services.delete(_SERVICE, _account(params.get("key_id", "")))
        except OSError as error:
            raise VaultError(
                f"the item stays in the keychain: {_why(error)}", hint="remove it with the application Keychain Access"
            ) from None

    def unwrap_key(self, params: Params) -> Key:
        """The key in the item. Raises VaultKeyMissing: a locked keychain, none, or no such item."""
        key_id = params.get("key_id", "")
        try:
            key = _found(_account(key_id))
        except OSError as error:
            _refuse(error)
        if key is None or _key_id(key) != key_id:
            raise VaultKeyMissing("the keychain does not hold the vault's key", hint="keychain-auth protect list")
        return bytearray(key)


def _found(account: str) -> bytes | None:
    password = keychain_services.find(_SERVICE, account)
    if password is None:
        return None
    try:
        key = base64.b64decode(password.value or b"", validate=True)
    except binascii.Error:
        return None
    return key if len(key) == KEY_BYTES else None


def _refuse(error: OSError) -> NoReturn:
    hint = "security unlock-keychain, then: keychain-auth unlock" if error.errno else ""
    raise VaultKeyMissing(f"the keychain does not give the key: {_why(error)}", hint=hint) from None


def _why(error: OSError) -> str:
    if error.errno in (keychain_services.INTERACTION_NOT_ALLOWED, keychain_services.AUTH_FAILED):
        return "it is locked, or would have to ask a person"
    return error.strerror or "it is a part of macOS, and this is another system"


def _account(key_id: str) -> str:
    return f"vault key {key_id}"


def _key_id(key: bytes) -> str:
    """16 hex digits that name the key and tell nothing about it."""
    return subkey(key, b"", "keychain item key id")[:8].hex()
