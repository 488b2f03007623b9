"""Key slots without a file: which envelope opens, what becomes of the keys that were tried, what a rekey relies on."""

from __future__ import annotations

import pytest

from keychain_auth.crypto.envelope import Key, Params
from keychain_auth.errors import UsageError, VaultDamaged, VaultKeyMissing, VaultLocked, WrongPassphrase
from keychain_auth.keychain.vault import slots
from keychain_auth.keychain.vault.format import SlotRow

VAULT = b"v" * 16
KEY = bytes(range(32))


class Keeper:
    """A protector with this KEK, whatever the slot says. ``given`` are the buffers that it gave out."""

    def __init__(self, kek: bytes, kind: str = "keyfile", *, asked: bool = False) -> None:
        self.kind, self.asked, self._kek = kind, asked, kek
        self.given: list[bytearray] = []

    def present(self) -> bool:
        return True

    def create(self) -> tuple[Params, Key]:
        return {"kind": self.kind}, self._give()

    def commit(self) -> None:
        """Nothing to keep."""

    def withdraw(self, params: Params) -> None:
        """Nothing to remove."""

    def unwrap_key(self, params: Params) -> Key:
        return self._give()

    def _give(self) -> bytearray:
        self.given.append(bytearray(self._kek))
        return self.given[-1]


class Gone(Keeper):
    """One that has lost its key."""

    def unwrap_key(self, params: Params) -> Key:
        raise VaultKeyMissing("it is gone")


RIGHT, WRONG = b"r" * 32, b"w" * 32


def slot(number: int = 1, kek: bytes = RIGHT, kind: str = "keyfile") -> SlotRow:
    return slots.new_slot(Keeper(kek, kind)).sealed(memoryview(bytearray(KEY)), VAULT, number)


def opened(rows: list[SlotRow], *keepers: Keeper, vault: bytes = VAULT) -> tuple[SlotRow, bytes]:
    key = bytearray(32)
    return slots.open_one("/vault.db", rows, vault, keepers, memoryview(key)), bytes(key)


def test_the_slot_that_fits_gives_the_key_and_every_key_that_was_tried_is_wiped() -> None:
    wrong, right = Keeper(WRONG, asked=True), Keeper(RIGHT)
    row, key = opened([slot(1, b"o" * 32), slot(2)], wrong, right)
    assert (row.number, key) == (2, KEY)
    assert [len(each.given) for each in (wrong, right)] == [2, 2]
    assert all(given == bytes(32) for each in (wrong, right) for given in each.given)


@pytest.mark.parametrize(
    ("row", "vault"),
    [
        (slot()._replace(number=2), VAULT),
        (slot()._replace(params=b'{"kind":"weaker"}'), VAULT),
        (slot()._replace(wrapped=slot().wrapped[:-1] + b"x"), VAULT),
        (slot(), b"o" * 16),
    ],
    ids=["another number", "other parameters", "altered", "another vault"],
)
def test_an_envelope_opens_in_its_place_alone(row: SlotRow, vault: bytes) -> None:
    with pytest.raises(VaultDamaged, match=f"key slot {row.number} does not authenticate"):
        opened([row], Keeper(RIGHT), vault=vault)


def test_parameters_that_are_none_are_damage() -> None:
    with pytest.raises(VaultDamaged, match="parameters of key slot 1"):
        opened([slot()._replace(params=b"[]")], Keeper(RIGHT))


def test_a_person_who_is_wrong_is_told_so_and_a_key_that_is_gone_is_not_the_persons_fault() -> None:
    rows = [slot(1, RIGHT, "passphrase")]
    with pytest.raises(WrongPassphrase):
        opened(rows, Keeper(WRONG, "passphrase", asked=True))
    with pytest.raises(VaultLocked, match="it is gone"):
        opened([slot(1), *rows], Gone(RIGHT), Keeper(WRONG, "passphrase", asked=True))
    with pytest.raises(VaultKeyMissing, match="it is gone"):
        opened([slot()], Gone(RIGHT))
    with pytest.raises(VaultKeyMissing, match="it has: keyfile"):
        opened([slot()], Keeper(RIGHT, "tpm2"))


def test_there_are_so_many_slots_and_no_more() -> None:
    key = memoryview(bytearray(KEY))
    rows: list[SlotRow] = []
    for _ in range(slots.MOST_SLOTS):
        rows = slots.with_slot(rows, slots.new_slot(Keeper(RIGHT)), key, VAULT)
    assert [row.number for row in rows] == list(range(1, slots.MOST_SLOTS + 1))
    with pytest.raises(UsageError, match="at most"):
        slots.with_slot(rows, slots.new_slot(Keeper(RIGHT)), key, VAULT)
    # A number is not given again while a later one is there: an envelope is bound to it.
    assert slots.with_slot(slots.without_slot(rows, 3), slots.new_slot(Keeper(RIGHT)), key, VAULT)[-1].number == 33


def test_the_last_slot_stays() -> None:
    with pytest.raises(UsageError, match="the last key slot"):
        slots.without_slot([slot()], 1)
    with pytest.raises(UsageError, match="no key slot 2"):
        slots.without_slot([slot()], 2)


def test_a_new_vault_key_is_wrapped_only_in_what_opens_the_slot() -> None:
    """A KEK that a person typed wrongly would close the slot for ever."""
    row = slot(1, RIGHT, "passphrase")
    wrong = Keeper(WRONG, "passphrase", asked=True)
    with pytest.raises(UsageError, match="it would be lost"):
        slots.rewrapped([row], VAULT, [wrong], [])
    assert wrong.given == [bytearray(32)]
    other = Keeper(RIGHT)  # of another kind: it is not asked, whatever it has
    plan = slots.rewrapped([row], VAULT, [other, wrong, Keeper(RIGHT, "passphrase", asked=True)], [])
    assert bytes(plan[1].kek) == RIGHT
    assert other.given == []


def test_of_a_rekey_that_cannot_be_no_key_is_left() -> None:
    maker = Keeper(RIGHT)
    with pytest.raises(UsageError, match="key slot 2"):
        slots.rewrapped([slot(1), slot(2, RIGHT, "passphrase")], VAULT, [], [maker])
    assert maker.given == [bytearray(32)]


def test_the_record_tells_any_two_sets_of_slots_apart() -> None:
    one, other = slot(1), slot(2)
    records = {
        slots.record_of(rows)
        for rows in ([one], [other], [one, other], [one._replace(kind="tpm2")], [one._replace(wrapped=b"")], [])
    }
    assert len(records) == 6
    assert slots.record_of([one, other]) == slots.record_of([other, one])
