"""Key slots: the rows that hold the vault key, each in one envelope, and the record of which they are.

Contract:
* A slot is added, replaced or removed in one transaction together with the *record of slots*, a sealed row of the
  vault's own. So a slot that somebody removes from the file, or brings back from an older copy of it, is noticed when
  the vault opens. A vault without such a record (it never had more than its first slot) is taken as it is.
* The last slot is never removed.

What it does not promise: that a removed slot is worthless. Who has an older copy of the file, and the key of that slot,
has the vault key. ``rekey`` makes a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from keychain_auth.crypto.aead import KEY_BYTES, NotAuthentic
from keychain_auth.crypto.envelope import Key, Params, Place, Protector, discard, unwrap_into, wrap
from keychain_auth.crypto.kdf import joined, wipe
from keychain_auth.errors import KeychainError, UsageError, VaultDamaged, VaultKeyMissing, VaultLocked, WrongPassphrase
from keychain_auth.keychain.vault.database import Reader
from keychain_auth.keychain.vault.format import Damage, SlotRow

MOST_SLOTS = 32


def read_slots(reader: Reader) -> list[SlotRow]:
    """All slots, by number. Raises Damage, KeychainError."""
    slots = []
    for number, kind, params, wrapped in reader.ask("SELECT id, kind, params, wrapped FROM slots ORDER BY id"):
        if not (isinstance(number, int) and isinstance(kind, bytes) and kind.isascii()):
            raise Damage("a key slot does not hold what it must")
        if not (isinstance(params, bytes) and isinstance(wrapped, bytes)):
            raise Damage("a key slot does not hold what it must")
        slots.append(SlotRow(number, kind.decode(), params, wrapped))
    return slots


def open_one(
    path: str, slots: Sequence[SlotRow], vault_id: bytes, protectors: Iterable[Protector], key: memoryview
) -> SlotRow:
    """Open the first slot that one of ``protectors`` fits: the vault key goes into ``key``. May take long.

    Raises WrongPassphrase if a person's answer fits none of its kind, VaultLocked if it may be opened later, else the
    protector's own refusal, or VaultKeyMissing.
    """
    refusals: list[KeychainError] = []
    answered = False
    for protector in protectors:
        for slot in slots:
            if slot.kind != protector.kind:
                continue
            answered = answered or protector.asked
            try:
                kek = protector.unwrap_key(slot.parameters())
            except VaultKeyMissing as refusal:
                refusals.append(refusal)
                continue
            except (ValueError, Damage):
                refusals.append(VaultDamaged(f"{path} is damaged: the parameters of key slot {slot.number} are none"))
                continue
            try:
                unwrap_into(kek, slot.wrapped, Place(vault_id, slot.number, slot.kind, slot.params), key)
            except NotAuthentic:
                if not protector.asked:
                    refusals.append(VaultDamaged(f"{path} is damaged: key slot {slot.number} does not authenticate"))
            else:
                return slot
            finally:
                discard(kek)
    if answered and not refusals:
        raise WrongPassphrase("this passphrase opens no slot of the vault", hint="keychain-auth unlock")
    if any(slot.kind in LATER for slot in slots):
        why = f" ({refusals[0]})" if refusals else ""
        raise VaultLocked(f"the vault is locked{why}", hint="keychain-auth unlock")
    if refusals:
        raise refusals[0]
    kinds = ", ".join(sorted({slot.kind for slot in slots}))
    raise VaultKeyMissing(f"{path} has no key slot that can be opened here (it has: {kinds or 'none'})")


LATER = frozenset(("dpapi", "macos_keychain", "passphrase", "recovery", "secret_service", "tpm2", "wsl"))
"""Kinds of slots that may be opened later, if not now: by a person, or by a keyring or chip that is not ready yet."""


class NewSlot(NamedTuple):
    """A slot before it has a number: what a protector made."""

    kind: str
    params: bytes
    kek: Key

    def sealed(self, key: memoryview, vault_id: bytes, number: int) -> SlotRow:
        """The row that holds ``key`` as slot ``number``."""
        wrapped = wrap(self.kek, key, Place(vault_id, number, self.kind, self.params))
        return SlotRow(number, self.kind, self.params, wrapped)


def new_slot(protector: Protector) -> NewSlot:
    """Have ``protector`` make its key. May take long. Raises KeychainAuthError."""
    params, kek = protector.create()
    return NewSlot(protector.kind, encoded(params), kek)


def encoded(params: Params) -> bytes:
    """Parameters as they are stored."""
    return msgspec.json.encode(params)


def with_slot(slots: Sequence[SlotRow], fresh: NewSlot, key: memoryview, vault_id: bytes) -> list[SlotRow]:
    """``slots`` and one more. Raises UsageError."""
    if len(slots) >= MOST_SLOTS:
        raise UsageError(f"a vault has at most {MOST_SLOTS} key slots", hint="keychain-auth protect list")
    number = max((slot.number for slot in slots), default=0) + 1
    return [*slots, fresh.sealed(key, vault_id, number)]


def without_slot(slots: Sequence[SlotRow], number: int) -> list[SlotRow]:
    """``slots`` less one. Raises UsageError for the last one, and for one that is not there."""
    rest = [slot for slot in slots if slot.number != number]
    if len(rest) == len(slots):
        raise UsageError(f"there is no key slot {number}", hint="keychain-auth protect list")
    if not rest:
        raise UsageError(
            "the last key slot cannot be removed: nothing could open the vault any more",
            hint="keychain-auth protect add passphrase",
        )
    return rest


def rewrapped(
    slots: Sequence[SlotRow], vault_id: bytes, openers: Sequence[Protector], makers: Sequence[Protector]
) -> dict[int, NewSlot]:
    """For each slot the key that a new vault key will be wrapped in. May take long.

    Raises UsageError naming a slot that nobody here can open or make anew, KeychainAuthError.
    """
    plan: dict[int, NewSlot] = {}
    try:
        for slot in slots:
            maker = next((maker for maker in makers if maker.kind == slot.kind), None)
            plan[slot.number] = new_slot(maker) if maker is not None else _opened(slot, vault_id, openers)
    except BaseException:
        for each in plan.values():
            discard(each.kek)
        raise
    return plan


def _opened(slot: SlotRow, vault_id: bytes, openers: Sequence[Protector]) -> NewSlot:
    """``slot`` with its key, proven to be the right one."""
    scratch = memoryview(bytearray(KEY_BYTES))
    for opener in openers:
        if opener.kind != slot.kind:
            continue
        kek = opener.unwrap_key(slot.parameters())
        try:
            unwrap_into(kek, slot.wrapped, Place(vault_id, slot.number, slot.kind, slot.params), scratch)
        except NotAuthentic:
            discard(kek)
            continue
        finally:
            wipe(scratch)
        return NewSlot(slot.kind, slot.params, kek)
    raise UsageError(
        f"key slot {slot.number} ({slot.kind}) cannot be opened now, so it would be lost; nothing was changed",
        hint=f"keychain-auth protect remove {slot.number}",
    )


def record_of(slots: Iterable[SlotRow]) -> str:
    """What the vault remembers of its slots: it tells them from any other set of slots."""
    digest = hashlib.sha256()
    for slot in sorted(slots):
        fields = (str(slot.number).encode(), slot.kind.encode(), slot.params, slot.wrapped)
        digest.update(hashlib.sha256(joined(fields)).digest())
    return digest.hexdigest()
