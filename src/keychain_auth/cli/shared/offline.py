"""Key slots while no daemon runs: the way out for who has the key file, but not the passphrase any more.

It gives nobody anything that was not his: whoever can open the vault without a person (a key file, this machine's TPM,
an open keyring) has every secret anyway. What is done is on record in the audit log.
"""

from __future__ import annotations

import asyncio

from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.record import administrative
from keychain_auth.client import passphrase as asked
from keychain_auth.daemon.locking.protection import Protection
from keychain_auth.daemon.places import Places
from keychain_auth.daemon.settings import load_settings
from keychain_auth.errors import VaultLocked
from keychain_auth.keychain.vault import Keys, Vault, open_vault
from keychain_auth.keychain.vault.format import OWN_POLICY, OWN_SETTINGS
from keychain_auth.protectors import passphrase, recovery


def open_alone(places: Places) -> Vault:
    """The vault, while no daemon has it; a person is asked if nothing else opens it.

    Raises PassphraseNeeded, WrongPassphrase, VaultError.
    """
    protection = Protection(places, load_settings(places.settings).lock)
    try:
        return open_vault(places.vault, protection.unattended(), makers=[])
    except VaultLocked:
        answers = protection.answers(asked.present())
        return open_vault(places.vault, answers, makers=[])


def remove_slot(places: Places, number: int) -> str:
    """Remove the key slot ``number``; its kind. With the last passphrase the seals of policy and settings go.

    Raises VaultLocked if only a person can open the vault, UsageError, VaultError, AuditError.
    """
    protection = Protection(places, load_settings(places.settings).lock)
    try:
        vault = open_vault(places.vault, protection.unattended(), makers=[])
    except VaultLocked as locked:  # nothing here asks a person: a daemon counts the guesses, this would not
        locked.hint = "keychain-auth start; then, beside it: keychain-auth unlock, and this command again"
        raise
    with asyncio.Runner() as runner:
        try:
            return runner.run(_remove(vault, protection, places, number))
        finally:
            runner.run(vault.close())


async def _remove(vault: Vault, protection: Protection, places: Places, number: int) -> str:
    log = AuditLog.open(places.audit_log, vault.audit_key())
    try:
        log.append([administrative("protect_remove", detail=f"slot {number}, while no daemon ran")], sync=True)
        slot = await Keys(vault).remove(number)
        if passphrase.KIND not in [slot.kind for slot in vault.slots]:
            for sealed in (OWN_POLICY, OWN_SETTINGS):
                await vault.keep_own(sealed, None)
        if slot.kind not in (passphrase.KIND, recovery.KIND):
            protection.of(slot.kind).withdraw(slot.parameters())
    finally:
        log.close()
    return slot.kind
