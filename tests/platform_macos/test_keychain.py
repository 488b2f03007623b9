"""The keychain of macOS, against a stand-in for its system calls: see conftest.py."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from keychain_auth.errors import CollectionLocked, KeychainError, VaultError, VaultKeyMissing
from keychain_auth.keychain.base import Keychain
from keychain_auth.keychain.kinds import MacosKeychainSettings, of_this_system, open_keychain
from keychain_auth.model import Item
from keychain_auth.native import keychain_services
from keychain_auth.protectors.macos_keychain import MacosKeychainItem
from keychain_auth.testing import KeychainContract, Store
from keychain_auth.testing.lab import SECRET, Lab, assert_silent, opened

NO_KEYCHAIN = -25307


class StandIn(Store):
    def __init__(self, macos: Any) -> None:
        self.macos = macos

    def open(self) -> Keychain:
        return open_keychain("mac", MacosKeychainSettings(), 8_000_000)

    async def lock(self) -> None:
        self.macos.fake_set(1, 0)

    async def unlock(self) -> None:
        self.macos.fake_set(0, 0)

    async def take_away(self) -> None:
        self.macos.fake_set(0, 1)

    bring_back = unlock


@pytest.fixture
def store(macos: Any) -> StandIn:
    return StandIn(macos)


class TestMacosKeychain(KeychainContract):
    pass


@pytest.fixture
def lab(store: StandIn) -> Iterator[Lab]:
    with opened(store) as lab:
        yield lab


def calls(macos: Any) -> list[str]:
    return str(macos.fake_record().decode()).splitlines()


def test_what_is_asked_of_the_system(lab: Lab, macos: Any) -> None:
    lab.write({"a": "1"})
    lab.write({"a": "2"})
    assert lab.read("a", "b") == [Item("a", "2")]
    assert lab.search() == [Item("a")]
    lab.delete("a", "b")
    assert calls(macos) == [
        "reveal svc/a", "look svc/a", "add svc/a",
        "reveal svc/a", "look svc/a", "update svc/a",
        "reveal svc/a", "reveal svc/b",
        "look svc/*",
        "reveal svc/a", "reveal svc/b", "delete svc/a",
    ]  # fmt: skip


def test_names_are_listed_without_values(lab: Lab, macos: Any) -> None:
    """A value that was not asked for would have to be consented to."""
    lab.write({"a": "1", "b": "2"})
    before = len(calls(macos))
    lab.search("a")
    lab.services()
    assert calls(macos)[before:] == ["look svc/*", "look */*"]


def test_items_of_other_programs(lab: Lab, macos: Any) -> None:
    macos.fake_foreign(b"svc", 3, b"theirs", b"their own", 9)
    macos.fake_foreign(b"svc", 3, b"bare", b"", 0)
    macos.fake_foreign(b"wifi\n", 5, b"of a name that no request can have", b"", 0)
    macos.fake_foreign(b"blob", -4, b"whose service is no text", b"", 0)
    macos.fake_foreign(b"empty", 5, b"", b"", 0)
    assert lab.search() == [Item("bare"), Item("theirs")]
    assert lab.services() == ["svc"]
    with pytest.raises(KeychainError, match="'theirs' belongs to another program") as caught:
        lab.read("theirs")
    assert caught.value.reason == "internal_error"
    assert lab.keychain.health()["state"] == "open"
    with pytest.raises(KeychainError, match="'theirs' in service 'svc' was made by another program, which leaves no"):
        lab.write({"theirs": SECRET}, environment="x")
    for _ in range(2):
        with pytest.raises(KeychainError, match="belongs to another program"):
            lab.write({"mine": "1", "theirs": SECRET})  # what is there could not be put back
        assert lab.search() == [Item("bare"), Item("theirs")]


def test_data_of_another_program_stays_in_its_item(macos: Any) -> None:
    macos.fake_foreign(b"svc", 3, b"theirs", b"their own", 9)
    keychain_services.put("svc", "theirs", b"new", "svc", None)
    found = keychain_services.listed("svc", "theirs")
    assert found is not None
    assert found.generic == b"their own"


def test_a_batch_that_fails_is_put_back(lab: Lab, macos: Any) -> None:
    lab.write({"a": "old"}, team="x")
    for number in range(3):
        macos.fake_fail(number, -25291)
        with pytest.raises(KeychainError, match="failed with status -25291") as caught:
            lab.write({"a": "new", "b": SECRET, "c": "new"})
        assert_silent(caught.value)
        assert lab.prefix("") == [Item("a", "old", {"team": "x"})]


def test_somebody_who_was_quicker(lab: Lab, macos: Any) -> None:
    lab.write({"a": "1"})
    macos.fake_fail(0, keychain_services.ITEM_NOT_FOUND)  # as if it came only between update and add
    lab.write({"a": "2"})
    assert calls(macos)[-3:] == ["update svc/a", "add svc/a", "update svc/a"]
    assert lab.read("a") == [Item("a", "2")]


def test_locked_and_gone_are_told_apart(lab: Lab, macos: Any) -> None:
    macos.fake_set(1, 0)
    lab.run(lab.keychain.probe())
    assert lab.keychain.health() == {
        "backend": "macos-keychain", "state": "locked",
        "problem": "the keychain of macOS is locked, and only a person can open it",
    }  # fmt: skip
    with pytest.raises(CollectionLocked) as caught:
        lab.read("a")
    assert caught.value.hint == "security unlock-keychain"
    macos.fake_set(0, 1)
    lab.run(lab.keychain.probe())
    assert lab.keychain.health()["state"] == "not reachable"


# --- the vault's slot -------------------------------------------------------------------------------


def test_the_slot_gives_its_key_back(macos: Any) -> None:
    protector = MacosKeychainItem()
    params, key = protector.create()
    assert calls(macos) == []
    protector.commit()
    assert MacosKeychainItem().unwrap_key(params) == key
    assert bytes(key).hex() not in str(params)
    other, _ = protector.create()
    with pytest.raises(VaultKeyMissing, match="does not hold"):
        protector.unwrap_key(other)
    protector.withdraw(params)
    protector.withdraw(params)
    with pytest.raises(VaultKeyMissing, match="does not hold"):
        protector.unwrap_key(params)
    with pytest.raises(RuntimeError, match=r"after create\(\)"):
        MacosKeychainItem().commit()


def test_a_slot_whose_keychain_is_locked_gone_or_altered(macos: Any) -> None:
    protector = MacosKeychainItem()
    params, _ = protector.create()
    macos.fake_set(1, 0)
    with pytest.raises(VaultError, match="does not take the key: it is locked"):
        protector.commit()
    macos.fake_set(0, 0)
    params, _ = protector.create()
    protector.commit()
    macos.fake_set(1, 0)
    with pytest.raises(VaultKeyMissing, match="it is locked") as caught:
        protector.unwrap_key(params)
    assert caught.value.hint == "security unlock-keychain, then: keychain-auth unlock"
    with pytest.raises(VaultError, match="stays in the keychain"):
        protector.withdraw(params)
    macos.fake_set(0, 1)
    with pytest.raises(VaultKeyMissing, match=f"status {NO_KEYCHAIN}"):
        protector.unwrap_key(params)
    macos.fake_set(0, 0)
    for wrong in (b"", b"!", b"AAAA", b"A" * 43 + b"="):
        keychain_services.put("keychain-auth", f"vault key {params['key_id']}", wrong, "", None)
        with pytest.raises(VaultKeyMissing, match="does not hold"):
            protector.unwrap_key(params)


# --- without a stand-in -----------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "darwin", reason="this is macOS")
def test_another_system_says_what_it_is_not() -> None:
    with pytest.raises(VaultKeyMissing, match="it is a part of macOS"):
        MacosKeychainItem().unwrap_key({"key_id": "0"})
    keychain = open_keychain("mac", MacosKeychainSettings(), 1000)

    async def ask() -> None:
        with pytest.raises(KeychainError, match="it is a part of macOS"):
            await keychain.services()
        await keychain.close()

    asyncio.run(ask())


def test_each_system_has_a_keychain_by_itself() -> None:
    assert {system: list(of_this_system(system)) for system in ("linux", "win32", "darwin")} == {
        "linux": ["secret-service"], "win32": ["credential-manager"], "darwin": ["macos-keychain"],
    }  # fmt: skip
