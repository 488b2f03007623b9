"""The keys of an open vault: slots added, renewed and removed, and a new vault key.

Contract: each of these is one transaction, among the vault's other changes; when it returns it is durable, and when it
raises the vault is as it was. What takes long (Argon2id, a chip, D-Bus) runs in a thread, before the vault's turn.

What a protector leaves on the machine (a key file, an item in a keyring) is made durable before the slot that needs it,
and may be removed only after that slot: a crash in between leaves a key without a slot, never a slot without its key.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from keychain_auth.crypto.aead import KEY_BYTES
from keychain_auth.crypto.envelope import Protector, discard
from keychain_auth.crypto.kdf import random_key, wipe
from keychain_auth.errors import KeychainError, UsageError, VaultKeyMissing, VaultLocked, WrongPassphrase
from keychain_auth.keychain.vault.create import mark
from keychain_auth.keychain.vault.format import OWN_AUDIT_KEY, OWN_SLOTS, Codec, SlotRow
from keychain_auth.keychain.vault.slots import new_slot, open_one, record_of, rewrapped, with_slot, without_slot
from keychain_auth.keychain.vault.vault import Vault

T = TypeVar("T")


class Keys:
    """What can be done with the keys of ``vault``. Made by whoever needs it: it holds nothing of its own."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def add(self, protector: Protector) -> int:
        """One more way to open the vault: what ``protector`` makes. Its number. Raises KeychainAuthError."""
        vault = self._vault
        fresh = await _in_thread(partial(new_slot, protector))
        number = 0

        async def change() -> None:
            nonlocal number
            slots = with_slot(vault.slots, fresh, vault._key, vault._vault_id)
            await _in_thread(protector.commit)
            try:
                await vault._keep({}, slots)
            except KeychainError:
                await _in_thread(partial(protector.withdraw, slots[-1].parameters()))
                raise
            number = slots[-1].number

        try:
            await vault._in_turn(change)
        finally:
            discard(fresh.kek)
        return number

    async def remove(self, number: int) -> SlotRow:
        """One way less: the slot that was ``number``. What its protector left on the machine is still there.

        Raises UsageError for the last slot and for one that is not there, KeychainError.
        """
        vault = self._vault
        gone: list[SlotRow] = []

        async def change() -> None:
            slots = without_slot(vault.slots, number)
            gone.extend(slot for slot in vault.slots if slot.number == number)
            mark(vault.path, vault._vault_id)
            await vault._keep({}, slots)

        await vault._in_turn(change)
        return gone[0]

    async def renew(self, number: int, protector: Protector) -> None:
        """The key of slot ``number``, made anew by ``protector`` of the same kind. Raises KeychainAuthError."""
        vault = self._vault
        fresh = await _in_thread(partial(new_slot, protector))

        async def change() -> None:
            if number not in [slot.number for slot in vault.slots]:
                raise UsageError(f"there is no key slot {number}", hint="keychain-auth protect list")
            await _in_thread(protector.commit)
            fitting = fresh.sealed(vault._key, vault._vault_id, number)
            await vault._keep({}, [fitting if slot.number == number else slot for slot in vault.slots])

        try:
            await vault._in_turn(change)
        finally:
            discard(fresh.kek)

    async def fit(self, protectors: Sequence[Protector]) -> bool:
        """Does one of ``protectors`` open a slot? It may take long. Raises KeychainError."""
        vault = self._vault
        found = bytearray(KEY_BYTES)
        look = partial(open_one, vault.path, vault.slots, vault._vault_id, protectors, memoryview(found))
        try:
            await _in_thread(look)
            return hmac.compare_digest(found, vault._key)
        except (WrongPassphrase, VaultLocked, VaultKeyMissing):
            return False
        finally:
            wipe(found)

    async def rekey(self, openers: Sequence[Protector], makers: Sequence[Protector] = ()) -> None:
        """A new vault key: every row and every slot is written anew, in one transaction.

        Each slot is wrapped by what one of ``openers`` opens it with now, or replaced by what the protector of its kind
        in ``makers`` makes. Raises UsageError naming a slot that neither can serve, KeychainAuthError.
        """
        vault = self._vault
        before = vault.slots
        plan = await _in_thread(partial(rewrapped, before, vault._vault_id, openers, makers))

        async def change() -> None:
            if vault.slots != before:
                raise UsageError("the key slots changed meanwhile; nothing was done", hint="keychain-auth rekey")
            fresh = random_key()
            codec = Codec(fresh, vault._vault_id)
            slots = [each.sealed(memoryview(fresh), vault._vault_id, number) for number, each in plan.items()]
            own = {OWN_SLOTS: record_of(slots).encode(), OWN_AUDIT_KEY: vault.audit_key().hex().encode()}
            vault._reader.hold()  # a long value that is read meanwhile comes from before
            try:
                await vault._change(partial(vault._writer.rekey, codec, own, slots), partial(vault._reindex, codec))
                vault._key[:] = fresh
                vault._slots = slots
            finally:
                vault._reader.release()
                wipe(fresh)
            await asyncio.wrap_future(vault._worker.submit(vault._writer.shorten))

        try:
            await vault._in_turn(change)
        finally:
            for each in plan.values():
                discard(each.kek)


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)
