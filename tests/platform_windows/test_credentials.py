"""Credential Manager as a keychain: the contract of all keychains with the system's own, and what is its own."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Iterator

import pytest

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.items import ItemStore
from keychain_auth.keychain.kinds import CredentialManagerSettings, open_keychain
from keychain_auth.keychain.threaded import ThreadedKeychain
from keychain_auth.keychain.windows import PREFIX, CredentialItems, decoded, mark_of
from keychain_auth.model import Item
from keychain_auth.native import credentials
from keychain_auth.testing import KeychainContract, Store
from keychain_auth.testing.lab import Lab, assert_silent, opened

on_windows = pytest.mark.skipif(sys.platform != "win32", reason="Credential Manager is a part of Windows")


class CredentialStore(Store):
    """Credentials that begin with a prefix of this test's own: those of the person stay as they are."""

    def __init__(self) -> None:
        self.prefix = f"keychain-auth-test-{secrets.token_hex(8)}:"
        self.items = CredentialItems(self.prefix)

    def open(self) -> ThreadedKeychain:
        return ThreadedKeychain(ItemStore(self.items), "credential-manager", "Credential Manager", seconds=5.0)

    def clear(self) -> None:
        for credential in credentials.find(self.prefix):
            credentials.delete(credential.name)


@pytest.fixture
def store() -> Iterator[CredentialStore]:
    made = CredentialStore()
    yield made
    made.clear()


class TestCredentialManager(KeychainContract):
    __test__ = sys.platform == "win32"
    largest = credentials.LARGEST_BLOB


@pytest.fixture
def lab(store: CredentialStore) -> Iterator[Lab]:
    with opened(store) as lab:
        yield lab


@on_windows
def test_a_value_may_fill_the_credential_to_the_last_byte(lab: Lab) -> None:
    room = credentials.LARGEST_BLOB - len('["svc","é",{}]\n'.encode())
    lab.write({"é": "x" * room})
    assert lab.read("é") == [Item("é", "x" * room)]
    with pytest.raises(KeychainError, match=f"{room} are left, and the value of 'é' has {room + 1}"):
        lab.write({"é": "x" * (room + 1)})
    assert lab.read("é") == [Item("é", "x" * room)]


@on_windows
def test_what_another_program_changed_is_no_answer(lab: Lab, store: CredentialStore) -> None:
    lab.write({"a": "1", "b": "2"})
    name = store.prefix + mark_of("svc", "a")
    moved = credentials.read(store.prefix + mark_of("svc", "b"))
    assert moved is not None
    for blob in (b"", b"no item", b'["svc","a",{}]', b'["svc","a"]\n1', b'["svc","A",{}]\n1', moved):
        credentials.write(name, blob, "", "")
        with pytest.raises(KeychainError, match="'a' in service 'svc' was changed by another program") as caught:
            lab.read("a")
        assert f"cmdkey /delete:{name}" in (caught.value.hint or "")
        assert lab.everything() == {"b": "2"}
    assert lab.keychain.health()["state"] == "open"


@on_windows
def test_a_value_that_is_no_text_is_named_and_not_shown(lab: Lab, store: CredentialStore) -> None:
    credentials.write(store.prefix + mark_of("svc", "a"), b'["svc","a",{}]\na value that no error may show\xff', "", "")
    with pytest.raises(KeychainError, match="'a' in service 'svc' is not UTF-8") as caught:
        lab.read("a")
    assert_silent(caught.value)


@on_windows
def test_windows_does_not_tell_case_apart_so_the_name_has_none(store: CredentialStore) -> None:
    """The naive way: two targets, one credential."""
    credentials.write(f"{store.prefix}svc:token", b"1", "", "")
    credentials.write(f"{store.prefix}svc:TOKEN", b"2", "", "")
    assert credentials.read(f"{store.prefix}svc:token") == b"2"
    assert len({mark_of("svc", "token").lower(), mark_of("svc", "TOKEN").lower()}) == 2


@on_windows
def test_other_programs_credentials_are_not_ours(lab: Lab, store: CredentialStore) -> None:
    lab.write({"a": "1"})
    foreign = f"not-{store.prefix}"
    credentials.write(foreign, b'["svc","b",{}]\n2', "", "")
    try:
        assert lab.everything() == {"a": "1"}
        assert lab.services() == ["svc"]
    finally:
        assert credentials.delete(foreign)
    assert not credentials.delete(foreign)


def test_names_are_marked_so_that_none_is_another() -> None:
    pairs = [("svc", "prod:pw"), ("svc:prod", "pw"), ("svc", "a"), ("svc", "A"), ("SVC", "a"), ("s", "vca"), ("", "")]
    assert len({mark_of(*pair) for pair in pairs}) == len(pairs)
    assert decoded(b'["s","t",{"n":"v"}]\nvalue\nwith lines') == ("s", "t", {"n": "v"}, b"value\nwith lines")
    assert decoded(b'["s","t",{}]\n') == ("s", "t", {}, b"")
    for blob in (b"", b"\n", b"[]\n", b'["s","t",{"n":1}]\nx', b'["s","\xff",{}]\nx', b'["s","t",{}]x'):
        assert decoded(blob) is None


@pytest.mark.skipif(sys.platform == "win32", reason="there is a Credential Manager here")
def test_another_system_says_what_it_is_not() -> None:
    keychain = open_keychain("cm", CredentialManagerSettings(), 1000)

    async def ask() -> None:
        await keychain.probe()
        with pytest.raises(KeychainError, match="a part of Windows"):
            await keychain.read("svc", ["a"], {})
        with pytest.raises(KeychainError, match="a part of Windows"):
            await keychain.write("svc", [("a", "1")], {})
        assert keychain.health() == {
            "backend": "credential-manager", "state": "not reachable",
            "problem": "Credential Manager cannot be asked: it is a part of Windows, and this is another system",
        }  # fmt: skip
        await keychain.close()

    asyncio.run(ask())
    assert PREFIX == "keychain-auth:"
