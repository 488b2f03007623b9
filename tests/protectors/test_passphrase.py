"""What a person knows as a key: the passphrase (Argon2id), the recovery code (and its checksum)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.crypto.stretch import Cost, calibrate, cost_for, stretch
from keychain_auth.errors import UsageError, VaultError
from keychain_auth.protectors.base import Protector
from keychain_auth.protectors.passphrase import Passphrase
from keychain_auth.protectors.recovery import RecoveryCode, parse

WORDS = "correct horse battery staple"
CHEAP = {"salt": "AAAAAAAAAAAAAAAAAAAAAA==", "memory_kib": "64", "passes": "1", "lanes": "1"}


def test_argon2id_is_that_of_the_rfc() -> None:
    """RFC 9106, section 5.3, without its secret and associated data: computed by the reference implementation."""
    key = stretch(b"\x01" * 32, b"\x02" * 16, Cost(32, 3, 4))
    assert key.hex() == "03aab965c12001c9d7d0d2de33192c0494b684bb148196d73c1df1acaf6d0c2e"


def test_calibration_comes_near_to_the_time_that_was_asked_for() -> None:
    cost = calibrate(0.5)
    began = time.perf_counter()
    stretch(b"x", bytes(16), cost)
    took = time.perf_counter() - began
    assert cost.memory_kib >= 64 * 1024
    assert 0.05 < took < 20  # a busy machine is not steady, but this is no matter of microseconds


@pytest.mark.parametrize(
    ("seconds", "one", "three", "passes"),
    [
        (0.5, 0.1, 0.2, 9),
        (0.5, 0.02, 0.03, 97),
        (0.001, 0.1, 0.2, 3),
        (0.5, 2.0, 6.0, 3),
        (9e9, 0.1, 0.2, 200),
        (0.5, 0.2, 0.1, 31),
    ],
)
def test_the_cost_follows_from_two_measurements(seconds: float, one: float, three: float, passes: int) -> None:
    assert cost_for(seconds, one, three) == Cost(64 * 1024, passes, 4)


def test_the_right_words_give_the_key_and_wrong_ones_another() -> None:
    protector: Protector = Passphrase(WORDS, seconds=0.001)
    params, key = protector.create()
    assert len(key) == 32
    assert Passphrase(WORDS).unwrap_key(params) == key
    assert Passphrase(WORDS + " ").unwrap_key(params) != key
    assert set(params) == {"salt", "memory_kib", "passes", "lanes"}
    assert not protector.present()
    assert protector.create()[1] != key  # another salt


def test_two_ways_to_type_a_letter_are_one_passphrase() -> None:
    assert Passphrase("caf\u00e9 au lait").unwrap_key(CHEAP) == Passphrase("cafe\u0301 au lait").unwrap_key(CHEAP)


@pytest.mark.parametrize("words", ["", "short", "\ud800aaaaaaaa", "x" * 2000])
def test_what_is_no_passphrase(words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Passphrase(words, seconds=0.001).create()
    assert not words or words not in str(caught.value)
    assert caught.value.__context__ is None or words not in str(caught.value.__context__)


@pytest.mark.parametrize(
    "change",
    [
        {"memory_kib": "99999999"},
        {"passes": "0"},
        {"passes": "x"},
        {"lanes": "1000"},
        {"salt": "!"},
        {"memory_kib": "-1"},
    ],
)
def test_a_cost_that_would_take_the_machine_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Passphrase(WORDS).unwrap_key({**CHEAP, **change})
    with pytest.raises(ValueError, match="missing"):
        Passphrase(WORDS).unwrap_key({})


def test_no_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> bytearray:
        raise MemoryError

    monkeypatch.setattr("keychain_auth.protectors.passphrase.stretch", none_left)
    with pytest.raises(VaultError, match="no memory"):
        Passphrase(WORDS).unwrap_key(CHEAP)


def test_forgotten_words_are_overwritten() -> None:
    protector = Passphrase(WORDS)
    before = protector.unwrap_key(CHEAP)
    protector.forget()
    assert protector.unwrap_key(CHEAP) != before
    assert WORDS.encode() not in bytes(protector._words)


# --- the recovery code ------------------------------------------------------------------------


def test_the_code_comes_back_however_it_is_typed() -> None:
    made = RecoveryCode()
    params, key = made.create()
    text = made.text()
    assert [len(group) for group in text.split("-")] == [4] * 9
    alike = text.replace("0", "O").replace("1", "l").replace("-", " ").lower()
    for typed in (text, text.lower(), text.replace("-", ""), alike, f"  {text}\n"):
        read = parse(typed)
        assert read is not None
        assert read.unwrap_key(params) == key
    other = parse(RecoveryCode().text())
    assert other is not None
    assert other.unwrap_key(params) != key


@given(st.integers(0, 35), st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZ"))
def test_one_wrong_character_is_noticed(at: int, char: str) -> None:
    made = RecoveryCode(bytearray(range(20)))
    text = made.text().replace("-", "")
    typed = text[:at] + char + text[at + 1 :]
    assert (parse(typed) is None) == (typed != text)


@pytest.mark.parametrize("typed", ["", "hello", "0" * 36, "\u0660" * 36, "x" * 10_000])
def test_what_is_no_code(typed: str) -> None:
    assert parse(typed) is None


def test_a_slot_without_its_salt() -> None:
    with pytest.raises(ValueError, match="missing"):
        RecoveryCode().unwrap_key({})
