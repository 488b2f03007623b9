"""Which protectors there are on this machine, and which one serves which kind of slot.

Contract: nothing here decides who may use one. What opens a slot without a person is tried at start, and by an
``unlock`` without an answer; what a person answered may be a passphrase or a recovery code, whichever fits.
"""

from __future__ import annotations

import importlib

from keychain_auth.crypto.envelope import Protector
from keychain_auth.daemon.places import Places
from keychain_auth.daemon.settings import LockSettings
from keychain_auth.errors import KeychainAuthError, UsageError, VaultKeyMissing
from keychain_auth.keychain.vault import peek_slots
from keychain_auth.protectors import dpapi, keyfile, macos_keychain, passphrase, recovery, tpm2, wsl
from keychain_auth.protectors.dpapi import Dpapi
from keychain_auth.protectors.keyfile import KeyFile
from keychain_auth.protectors.macos_keychain import MacosKeychainItem
from keychain_auth.protectors.passphrase import Passphrase
from keychain_auth.protectors.recovery import RecoveryCode
from keychain_auth.protectors.tpm2 import Tpm2
from keychain_auth.protectors.wsl import WslHelper

SECRET_SERVICE = "secret_service"  # noqa: S105 - the kind; its module is loaded only where it is used
KINDS = (
    keyfile.KIND,
    passphrase.KIND,
    recovery.KIND,
    tpm2.KIND,
    SECRET_SERVICE,
    wsl.KIND,
    dpapi.KIND,
    macos_keychain.KIND,
)
"""What ``protect add`` takes."""


class Protection:
    """The protectors of this daemon's vault."""

    def __init__(self, places: Places, settings: LockSettings) -> None:
        self._places = places
        self._settings = settings

    def first(self) -> list[Protector]:
        """What a new vault is opened by."""
        return [KeyFile(self._places.vault_key)]

    def unattended(self) -> list[Protector]:
        """What can open a slot without a person, in the order in which it is tried."""
        try:
            kinds = {slot.kind for slot in peek_slots(self._places.vault)}
        except KeychainAuthError:
            kinds = set()  # whoever opens it will say what is wrong
        keyring = [self._keyring()] if SECRET_SERVICE in kinds else []
        helper = WslHelper(self._settings.wsl_helper)
        return [
            KeyFile(self._places.vault_key),
            Tpm2(self._settings.tpm),
            *keyring,
            helper,
            Dpapi(),
            MacosKeychainItem(),
        ]

    def answers(self, words: str) -> list[Protector]:
        """What ``words`` can be the answer to. Raises UsageError if to nothing."""
        code = recovery.parse(words)
        return [*([code] if code is not None else []), Passphrase(words)]

    def new(self, kind: str, words: str | None, pcrs: str = "") -> Protector:
        """What makes a new slot of ``kind``. ``words``: a new passphrase, ``pcrs``: what a TPM shall bind its key to.

        Raises UsageError.
        """
        if pcrs and kind != tpm2.KIND:
            raise UsageError(f"a slot of kind {kind} is not bound to PCRs")
        if kind == passphrase.KIND:
            if words is None:
                raise UsageError("a new passphrase is needed", hint="keychain-auth protect add passphrase")
            return Passphrase(words, self._settings.passphrase_seconds)
        if words is not None:
            raise UsageError(f"a slot of kind {kind} has no passphrase")
        if kind == recovery.KIND:
            return RecoveryCode()
        if kind == tpm2.KIND:
            return Tpm2(self._settings.tpm, pcrs)
        return self.of(kind)

    def _keyring(self) -> Protector:
        try:
            module = importlib.import_module("keychain_auth.protectors.secret_service")
        except ImportError:
            raise VaultKeyMissing(
                "the keyring cannot be asked without jeepney",
                hint="install keychain-auth with its extra secret-service, as the README says",
            ) from None
        keyring: Protector = module.SecretServiceItem()
        return keyring

    def of(self, kind: str) -> Protector:
        """The protector that opens slots of ``kind`` without a person. Raises UsageError if there is none here."""
        if kind == SECRET_SERVICE:
            return self._keyring()
        found = next((protector for protector in self.unattended() if protector.kind == kind), None)
        if found is None:
            raise UsageError(f"a key slot is one of: {', '.join(KINDS)}", hint="keychain-auth protect add --help")
        return found
