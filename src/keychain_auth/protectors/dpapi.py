"""Windows itself as the keeper of the vault's key: DPAPI, for the account that runs the daemon.

The key lies in the slot, protected by CryptProtectData with entropy that is made for this slot alone. Nothing is kept
anywhere else, and nobody is asked: the account's log-on opens it.

What it stops: whoever copies the files (a backup, a synchronised folder, the disk in another machine) without the
account's password. What it does *not* stop: a program of the same account, for DPAPI asks nobody and the entropy
stands in the slot; nor an administrator of this machine while the account is logged on; nor, in a domain, who holds
the domain's DPAPI backup key.

When the account's password is *reset* (not changed by its owner), Windows loses what opens DPAPI: have another slot.
"""

from __future__ import annotations

import base64
import binascii
import secrets

from keychain_auth.crypto.aead import KEY_BYTES
from keychain_auth.crypto.envelope import Key, Params
from keychain_auth.errors import VaultKeyMissing
from keychain_auth.native import dpapi

KIND = "dpapi"
_PURPOSE = b"keychain-auth vault key 1 "
_ENTROPY_BYTES = 32
_DESCRIPTION = "key of the keychain-auth vault"
_OTHER_SLOT = "open it by another slot: keychain-auth unlock"


class Dpapi:
    """The protector of kind ``dpapi``."""

    kind = KIND
    asked = False

    def present(self) -> bool:
        """Never: what belongs to a slot lies in the slot."""
        return False

    def create(self) -> tuple[Params, Key]:
        """A new key, and what DPAPI made of it. Raises VaultKeyMissing."""
        key = bytearray(secrets.token_bytes(KEY_BYTES))
        entropy = secrets.token_bytes(_ENTROPY_BYTES)
        try:
            blob = dpapi.protect(key, _PURPOSE + entropy, _DESCRIPTION)
        except OSError as error:
            raise VaultKeyMissing(f"Windows does not protect the key: {_why(error)}") from None
        return {"entropy": base64.b64encode(entropy).decode(), "blob": base64.b64encode(blob).decode()}, key

    def commit(self) -> None:
        """Nothing to keep: the slot has it."""

    def withdraw(self, params: Params) -> None:
        """Nothing to remove."""

    def unwrap_key(self, params: Params) -> Key:
        """What DPAPI gives back. Raises VaultKeyMissing, ValueError."""
        try:
            entropy = base64.b64decode(params["entropy"], validate=True)
            blob = base64.b64decode(params["blob"], validate=True)
        except (KeyError, binascii.Error):
            raise ValueError("the slot lacks what DPAPI made") from None
        try:
            key = dpapi.unprotect(blob, _PURPOSE + entropy)
        except OSError as error:
            raise VaultKeyMissing(f"Windows does not unprotect the key: {_why(error)}", hint=_OTHER_SLOT) from None
        if len(key) != KEY_BYTES:
            raise VaultKeyMissing("what Windows unprotected is no key", hint=_OTHER_SLOT)
        return key


def _why(error: OSError) -> str:
    if error.errno == dpapi.INVALID_DATA:
        return "it was protected by another account or on another machine, or it was altered"
    if error.errno == dpapi.BAD_KEY_STATE:
        return "this account's own keys do not open, as after a reset of its password"
    return str(error.strerror or "DPAPI is a part of Windows, and this is another system")
