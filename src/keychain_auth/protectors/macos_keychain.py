"""The keychain of macOS as the keeper of the vault's key: one generic password in the user's default keychain.

What it stops: whoever has the files without the keychain's password. What it does *not* stop: a program of the same
user while the keychain is open, as far as it is Python: macOS trusts the program that made an item, and that is the
interpreter, whatever script it runs.

Nobody is asked anything: while the keychain is locked, the vault is. Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

from collections.abc import Collection

from keychain_auth.errors import VaultError, VaultKeyMissing
from keychain_auth.native import keychain_services
from keychain_auth.protectors.item import LABEL, SERVICE, ItemProtector

KIND = "macos_keychain"


class MacosKeychainItem(ItemProtector):
    """The protector of kind ``macos_keychain``."""

    kind = KIND
    keyring = "keychain"
    key_id_label = "keychain item key id"

    def keep(self, account: str, text: bytes) -> Collection[bytes]:
        """See ``ItemProtector.keep``."""
        try:
            keychain_services.put(SERVICE, account, text, LABEL, b"")
            return _found(account)
        except OSError as error:
            raise VaultError(f"the keychain does not take the key: {_why(error)}") from None

    def find(self, account: str) -> Collection[bytes]:
        """See ``ItemProtector.find``."""
        try:
            return _found(account)
        except OSError as error:
            hint = "security unlock-keychain, then: keychain-auth unlock" if error.errno else ""
            raise VaultKeyMissing(f"the keychain does not give the key: {_why(error)}", hint=hint) from None

    def remove(self, account: str) -> None:
        """See ``ItemProtector.remove``."""
        try:
            keychain_services.delete(SERVICE, account)
        except OSError as error:
            raise VaultError(
                f"the item stays in the keychain: {_why(error)}", hint="remove it with the application Keychain Access"
            ) from None


def _found(account: str) -> list[bytes]:
    password = keychain_services.find(SERVICE, account)
    return [] if password is None else [password.value or b""]


def _why(error: OSError) -> str:
    if error.errno in (keychain_services.INTERACTION_NOT_ALLOWED, keychain_services.AUTH_FAILED):
        return "it is locked, or would have to ask a person"
    return error.strerror or "it is a part of macOS, and this is another system"
