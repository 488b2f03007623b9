"""What secret-tool, keyring, go-keyring and keytar store is read, and what we store they can read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import metadata

import pytest

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.secret_service.keychain import SecretServiceKeychain
from keychain_auth.model import Item
from keychain_auth.testing.lab import SECRET, Lab, opened
from keychains.test_secret_service import SecretServiceStore
from support.installation import copy_with_needs
from support.secret_service import Desktop


@pytest.fixture
def lab(desktop: Desktop) -> Iterator[Lab]:
    # Names are remembered for ever: what others change is known by the signals alone.
    keychain = SecretServiceKeychain(address=desktop.address, names_seconds=1e9)
    with opened(SecretServiceStore(desktop), keychain) as lab:
        yield lab


class Keyring:
    """The real package ``keyring``, run by the user under test in the session."""

    def __init__(self, desktop: Desktop) -> None:
        self._desktop = desktop
        self._folder = desktop.world.path("keyring")
        try:
            copy_with_needs("keyring", self._folder)
        except metadata.PackageNotFoundError:
            pytest.skip("needs keyring (pip install keyring)")

    def __call__(self, code: str) -> str:
        words = "import keyring; from keyring.backends.SecretService import Keyring; k = Keyring(); "
        python = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]
        env = ["/usr/bin/env", f"PYTHONPATH={self._folder}"]
        return self._desktop.run(*env, python, "-c", words + code)


def test_secret_tool_both_ways(desktop: Desktop, lab: Lab) -> None:
    desktop.store("of secret-tool", "service", "svc", "username", "u", "environment", "prod")
    desktop.store("by account", "service", "svc", "account", "acc")
    assert lab.read("u", "acc") == [Item("u", "of secret-tool", {"environment": "prod"}), Item("acc", "by account")]
    lab.write({"u": "ours", "new": "пароль\N{KEY}"}, team="x")
    assert desktop.lookup("service", "svc", "username", "u") == "ours"
    assert desktop.lookup("service", "svc", "username", "new") == "пароль\N{KEY}"
    assert desktop.lookup("service", "svc", "account", "new", "team", "x") == "пароль\N{KEY}"
    desktop.run("secret-tool", "clear", "service", "svc", "username", "u")
    assert lab.read("u") == []
    assert [item.target for item in lab.search()] == ["acc", "new"]


def test_keyring_both_ways(desktop: Desktop, lab: Lab) -> None:
    keyring = Keyring(desktop)
    keyring("k.set_password('svc', 'u', 'of kéyring')")
    assert lab.read("u") == [Item("u", "of kéyring")]
    assert lab.services() == ["svc"]
    lab.write({"u": "ours", "v": "ours too"})
    told = keyring(
        "print(k.get_password('svc', 'u'), k.get_password('svc', 'v'), k.get_credential('svc', 'v').username);"
        "k.set_password('svc', 'u', 'of kéyring again')"
    )
    assert told == "ours ours too v\n"
    assert lab.read("u") == [Item("u", "of kéyring again")]
    # Its item carries an attribute more, so it makes a second one beside ours. The last written counts, and a write
    # of ours changes both, whichever it looks at first.
    keyring("k.set_password('svc', 'v', 'beside')")
    assert lab.read("v") == [Item("v", "beside")]
    lab.write({"v": "both"})
    assert keyring("print(k.get_password('svc', 'v'))") == "both\n"
    assert {item["username"] for item in desktop.items()} == {"u", "v"}
    lab.delete("u", "v")
    assert keyring("print(k.get_password('svc', 'u'), k.get_password('svc', 'v'))") == "None None\n"
    assert desktop.items() == []


def test_go_keyring_and_keytar_by_their_attributes(desktop: Desktop, lab: Lab) -> None:
    """go-keyring searches by service and username, keytar by service, account and libsecret's generic schema."""
    schema = ("xdg:schema", "org.freedesktop.Secret.Generic")
    desktop.store("of go", "service", "svc", "username", "go", label="Password for 'go' on 'svc'")
    desktop.store("of node", *schema, "service", "svc", "account", "node")
    assert lab.read("go", "node") == [Item("go", "of go"), Item("node", "of node")]
    lab.write({"ours": "1", "node": "2"})
    assert desktop.lookup("service", "svc", "username", "ours") == "1"
    assert desktop.lookup(*schema, "service", "svc", "account", "ours") == "1"
    assert desktop.lookup(*schema, "service", "svc", "account", "node") == "2"
    assert {"service": "svc", "account": "node", "xdg:schema": schema[1]} in desktop.items()
    with desktop.monitored() as messages:
        lab.write({"other": "3"})
    created = [message.body for message in messages if "CreateItem" in message.header.fields.values()]
    assert [(body[0]["org.freedesktop.Secret.Item.Label"][1], body[1][3]) for body in created] == [
        ("Password for 'other' on 'svc'", "text/plain; charset=utf8")
    ]


def test_items_that_are_not_ours_are_not_there(desktop: Desktop, lab: Lab) -> None:
    desktop.store("mail", "server", "smtp", "user", "joe")
    desktop.store("no target", "service", "svc")
    desktop.store("empty", "service", "svc", "username", "")
    desktop.store("control", "service", "svc", "username", "a\nb")
    desktop.store("ours", "service", "svc", "username", "a")
    assert lab.services() == ["svc"]
    assert lab.search() == [Item("a")]
    lab.write({"a": "1"})
    lab.delete("a")
    assert len(desktop.items()) == 4


def test_changes_of_others_are_seen_by_the_signals(desktop: Desktop, lab: Lab) -> None:
    lab.write({"a": "1"})
    assert lab.search() == [Item("a")]
    desktop.store("2", "service", "svc", "username", "b", "environment", "x")
    assert lab.search() == [Item("a"), Item("b", None, {"environment": "x"})]
    assert lab.services() == ["svc"]
    desktop.store("3", "service", "svc", "username", "a")
    assert lab.read("a") == [Item("a", "3")]
    desktop.run("secret-tool", "clear", "service", "svc")
    assert lab.search() == lab.prefix("") == []
    desktop.store("4", "service", "svc", "username", "a")
    assert lab.prefix("a") == [Item("a", "4")]


def test_names_are_remembered_and_values_are_not(desktop: Desktop, lab: Lab) -> None:
    lab.write({"a": SECRET})
    lab.read("a")
    with desktop.monitored() as messages:
        for _ in range(3):
            assert lab.read("a") == [Item("a", SECRET)]
            lab.search()
    called = [field for message in messages for field in message.header.fields.values()]
    assert called.count("GetSecrets") == 3
    assert "SearchItems" not in called
    assert "GetAll" not in called


def test_what_else_lies_in_the_collection_costs_nothing(desktop: Desktop, lab: Lab) -> None:
    for number in range(20):
        desktop.plain_create("v", {"service": "browser", "username": str(number)})
    desktop.plain_create("ours", {"service": "svc", "username": "a"})
    with desktop.monitored() as messages:
        assert lab.read("a") == [Item("a", "ours")]
        assert lab.search() == [Item("a")]
    called = [field for message in messages for field in message.header.fields.values()]
    assert called.count("GetAll") == 1
    assert len(lab.search(service="browser")) == 20
    assert lab.services() == ["browser", "svc"]


def test_a_service_without_signals_is_asked_again(desktop: Desktop, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from keychain_auth.secret_service.service import Service

    monkeypatch.setattr(Service, "changes", lambda self: [])
    lab.search()
    desktop.store("1", "service", "svc", "username", "a")
    assert lab.search() == []  # remembered for ever, by the fixture
    assert lab.read("a") == [Item("a", "1")]  # what is asked for by name is looked for
    fresh = SecretServiceKeychain(address=desktop.address, names_seconds=0.0)
    try:
        assert len(lab.run(fresh.search("svc", [], {}))) == 1
        desktop.store("2", "service", "svc", "username", "b")
        assert len(lab.run(fresh.search("svc", [], {}))) == 2
    finally:
        lab.run(fresh.close())


def test_a_value_that_is_no_text_is_an_error_that_shows_nothing(desktop: Desktop, lab: Lab) -> None:
    desktop.run("sh", "-c", "printf 'caf\\351 binary' | secret-tool store --label=x service svc username bin")
    desktop.store("text", "service", "svc", "username", "txt")
    with pytest.raises(KeychainError, match=r"'bin' in service 'svc' is not UTF-8") as caught:
        lab.read("bin")
    assert caught.value.__context__ is None
    assert lab.keychain.health() == {"backend": "secret-service", "collection": "default", "state": "open"}
    assert lab.read("txt") == [Item("txt", "text")]
    lab.write({"bin": "now text"})
    assert lab.read("bin") == [Item("bin", "now text")]


def test_bookkeeping_is_no_attribute_for_clients(desktop: Desktop, lab: Lab) -> None:
    for name in ("service", "username", "account", "application", "xdg:schema"):
        with pytest.raises(KeychainError, match="cannot be called that"):
            lab.run(lab.keychain.write("svc", [("a", SECRET)], {name: "x"}))
    assert desktop.items() == []


def test_collections_by_name(desktop: Desktop, lab: Lab) -> None:
    path = desktop.create_collection("Wörk")
    desktop.store("at home", "service", "svc", "username", "a")
    desktop.store("at work", "service", "svc", "username", "a", collection=path)
    for name, value in (("", "at home"), ("login", "at home"), ("default", "at home"), (path, "at work"),
                        ("Wörk", "at work")):  # fmt: skip
        keychain = SecretServiceKeychain(name, address=desktop.address)
        try:
            assert lab.run(keychain.read("svc", ["a"], {})) == [Item("a", value)]
        finally:
            lab.run(keychain.close())
    desktop.lock(path)
    work = SecretServiceKeychain("Wörk", address=desktop.address)
    nowhere = SecretServiceKeychain("Play", address=desktop.address)
    try:
        with pytest.raises(KeychainError) as caught:
            lab.run(work.read("svc", ["a"], {}))
        assert caught.value.reason == "keychain_locked"
        assert lab.read("a") == [Item("a", "at home")]
        with pytest.raises(KeychainError, match=r"no collections are called 'Play'; there are: .*login"):
            lab.run(nowhere.read("svc", ["a"], {}))
    finally:
        lab.run(work.close())
        lab.run(nowhere.close())
