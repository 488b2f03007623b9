"""The Secret Service locked, hung, gone, replaced; batches that fail in the middle; nobody is ever prompted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.secret_service.keychain import SecretServiceKeychain
from keychain_auth.model import Item
from keychain_auth.secret_service.bus import Bus, Unreachable
from keychain_auth.secret_service.service import Gone, Locked, Service
from keychain_auth.testing.lab import SECRET, Lab, opened
from keychains.test_secret_service import SecretServiceStore
from support.lines import PATIENCE, until
from support.secret_service import Desktop, missing
from support.world import World

SECONDS = 1.0  # of who does not wait for a hung service


@pytest.fixture
def lab(desktop: Desktop) -> Iterator[Lab]:
    keychain = SecretServiceKeychain(address=desktop.address, seconds=20)
    with opened(SecretServiceStore(desktop), keychain) as lab:
        yield lab


def failing(lab: Lab, work: Callable[[], object]) -> KeychainError:
    """What ``work`` raises, which shows no value."""
    with pytest.raises(KeychainError) as caught:
        work()
    assert SECRET not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__context__ is None
    return caught.value


# --- what passes over the bus -------------------------------------------------------------------


def test_values_cross_the_bus_encrypted(desktop: Desktop, lab: Lab) -> None:
    with desktop.monitored() as messages:
        desktop.plain_create(SECRET, {"service": "svc", "username": "plain"})
    assert SECRET.encode() in seen(messages)  # what a monitor of the bus sees of a naive client
    with desktop.monitored() as messages:
        lab.write({"a": SECRET})
        assert len(lab.prefix("")) == 2
    assert b"svc" in seen(messages)
    assert SECRET.encode() not in seen(messages)


def seen(messages: list[Any]) -> bytes:
    return b"".join(message.serialise(serial=1) for message in messages)


def test_nobody_is_prompted_for_anything(desktop: Desktop, lab: Lab) -> None:
    lab.write({"a": SECRET})
    desktop.lock()
    with desktop.monitored() as messages:
        for work in (lambda: lab.read("a"), lab.search, lambda: lab.write({"b": SECRET}), lambda: lab.delete("a")):
            assert failing(lab, work).reason == "keychain_locked"
    called = {field for message in messages for field in message.header.fields.values()}
    assert "Get" in called
    assert not called & {"Unlock", "Prompt", "CreateCollection"}


def test_a_prompt_that_the_service_wants_is_dismissed(
    desktop: Desktop, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other services than gnome-keyring may answer a change with a prompt instead of refusing it."""
    real = Service._call

    def prompting(self: Service, path: str, interface: str, method: str, *rest: Any) -> Any:
        return ("/", "/prompt/1") if method == "CreateItem" else real(self, path, interface, method, *rest)

    monkeypatch.setattr(Service, "_call", prompting)
    with desktop.monitored() as messages:
        assert failing(lab, lambda: lab.write({"a": SECRET})).reason == "keychain_locked"
    assert "Dismiss" in {field for message in messages for field in message.header.fields.values()}


def test_a_service_that_does_not_run_is_not_started(world: World) -> None:
    """What a bus starts for us comes up locked, and may prompt. First as most clients call it, then as we do."""
    if reason := missing():
        pytest.skip(reason)
    started = world.path("started")
    world.write(
        "services/org.freedesktop.secrets.service",
        f"[D-BUS Service]\nName=org.freedesktop.secrets\nExec=/usr/bin/touch {started}\n",
    )
    desktop = Desktop(world, services=world.path("services"))
    desktop.stop_keyring()
    keychain = SecretServiceKeychain(address=desktop.address, seconds=20)
    try:
        with asyncio.Runner() as runner:
            with pytest.raises(KeychainError, match="nobody is on the bus"):
                runner.run(keychain.read("svc", ["a"], {}))
            runner.run(keychain.close())
        assert not os.path.exists(started)
        desktop.call_service()
        until(lambda: os.path.exists(started), "the bus starts the service for a client that does not say no")
    finally:
        desktop.close()


# --- hung, gone, replaced -----------------------------------------------------------------------


def test_a_hung_service_holds_nobody_longer_than_agreed(desktop: Desktop, lab: Lab) -> None:
    lab.write({"a": "1"})
    keychain = SecretServiceKeychain(address=desktop.address, seconds=SECONDS)

    async def many(ask: Callable[[], Any]) -> list[Any]:
        return await asyncio.gather(*(ask() for _ in range(20)), return_exceptions=True)

    def is_back() -> bool:
        try:
            return bool(lab.run(keychain.read("svc", ["a"], {})))
        except KeychainError:  # it still works off what it was asked before
            return False

    try:
        with desktop.hung():
            for ask in (
                lambda: keychain.read("svc", ["a"], {}),
                lambda: keychain.write("svc", [("a", SECRET)], {}),
            ):
                began = time.monotonic()
                outcomes = lab.run(many(ask))
                assert time.monotonic() - began < 10 * SECONDS  # not twenty times
                assert {type(outcome) for outcome in outcomes} == {KeychainError}
                assert any("did not answer in time" in str(outcome) for outcome in outcomes)
                assert not any(SECRET in str(outcome) for outcome in outcomes)
        until(is_back, "the service is used again")
    finally:
        lab.run(keychain.close())
    assert lab.read("a") == [Item("a", "1")]
    lab.write({"a": "2"})
    assert lab.read("a") == [Item("a", "2")]


def test_a_bus_that_does_not_answer_keeps_no_descriptor(world: World) -> None:
    """It takes the connection and its authentication, and then says nothing."""
    address = world.path("run/silent")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()

        def authenticate() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(1024):
                    if b"AUTH" in data:
                        connection.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")

        thread = threading.Thread(target=authenticate, daemon=True)
        thread.start()
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(Unreachable, match="did not answer in time"):
            Bus("org.freedesktop.secrets", f"unix:path={address}", time.monotonic() + 0.5)
        thread.join(PATIENCE)
        assert not thread.is_alive()  # it saw the end of the connection
        assert len(os.listdir("/proc/self/fd")) <= before


def test_a_service_that_was_replaced_is_used_at_once(desktop: Desktop, lab: Lab) -> None:
    lab.write({"a": "1"})
    desktop.stop_keyring()
    desktop.start_keyring()
    assert lab.read("a") == [Item("a", "1")]
    desktop.stop_keyring()
    desktop.start_keyring()
    lab.write({"a": "2"})
    assert lab.prefix("") == [Item("a", "2")]


def test_health_says_how_it_is(desktop: Desktop, lab: Lab) -> None:
    assert lab.keychain.health()["state"] == "not asked yet"
    for act, state in ((lambda: None, "open"), (desktop.lock, "locked"), (desktop.unlock, "open"),
                       (desktop.stop_keyring, "not reachable"), (desktop.start_keyring, "open")):  # fmt: skip
        act()
        lab.run(lab.keychain.probe())
        assert lab.keychain.health()["state"] == state
        assert ("problem" in lab.keychain.health()) is (state != "open")


def test_there_is_no_bus_no_collection_no_secret_service(desktop: Desktop, lab: Lab) -> None:
    nobody = SecretServiceKeychain(address="unix:path=/nonexistent/bus")
    odd = SecretServiceKeychain(address="tcp:host=localhost")
    try:
        for keychain in (nobody, odd):
            error = failing(lab, lambda keychain=keychain: lab.run(keychain.search("svc", [], {})))
            assert "there is no D-Bus" in str(error)
            assert "log in to the desktop" in error.hint
    finally:
        lab.run(nobody.close())
        lab.run(odd.close())
    desktop.stop_keyring()
    desktop.start_empty_keyring()
    assert "there is no default collection" in str(failing(lab, lambda: lab.write({"a": SECRET})))


def test_an_impostor_that_answers_nonsense_is_an_error(desktop: Desktop, lab: Lab) -> None:
    desktop.stop_keyring()
    with desktop.impostor():
        for work in (lambda: lab.read("a"), lambda: lab.write({"a": SECRET})):
            assert "does not answer like one" in str(failing(lab, work))
    desktop.start_keyring()
    assert lab.search() == []


# --- batches that fail in the middle ------------------------------------------------------------

BEFORE = {"a": "old a", "b": "old b"}


@pytest.fixture
def filled(desktop: Desktop, lab: Lab) -> Lab:
    lab.write(BEFORE, team="x")
    return lab


def everything(desktop: Desktop) -> list[list[tuple[str, str]]]:
    return sorted(sorted(item.items()) for item in desktop.items())


@pytest.mark.parametrize("error", [Gone("lost"), Locked()], ids=["gone", "locked"])
@pytest.mark.parametrize("done", [False, True], ids=["not made", "made"])
@pytest.mark.parametrize("step", ["create", "set_secret", "set_attributes"])
def test_a_write_that_fails_in_the_middle_is_undone(
    desktop: Desktop, filled: Lab, monkeypatch: pytest.MonkeyPatch, step: str, done: bool, error: Exception
) -> None:
    """Whether the step that failed was made or not, the service does not say."""
    attributes = everything(desktop)
    real = getattr(Service, step)
    fail_at_second(monkeypatch, step, error, real if done else None)
    failing(filled, lambda: filled.write({"new": SECRET, "a": SECRET, "b": SECRET, "more": SECRET}, team="y"))
    monkeypatch.setattr(Service, step, real)
    assert filled.everything() == BEFORE
    assert everything(desktop) == attributes


@pytest.mark.parametrize("done", [False, True], ids=["not made", "made"])
def test_a_deletion_that_fails_in_the_middle_is_undone(
    desktop: Desktop, filled: Lab, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    attributes = everything(desktop)
    real = Service.delete
    fail_at_second(monkeypatch, "delete", Gone("lost"), real if done else None)
    failing(filled, lambda: filled.delete("a", "b"))
    monkeypatch.setattr(Service, "delete", real)
    assert filled.everything() == BEFORE
    assert everything(desktop) == attributes


def test_what_could_not_be_undone_is_named(filled: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Service.set_secret
    fail_at_second(monkeypatch, "set_secret", Gone("lost"), None, lasting=True)
    error = failing(filled, lambda: filled.write({"a": SECRET, "b": SECRET}))
    assert "could not be undone" in str(error)
    assert "'a', 'b'" in str(error)
    monkeypatch.setattr(Service, "set_secret", real)
    assert filled.everything() == {"a": SECRET, "b": "old b"}


def fail_at_second(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: Exception,
    before: Callable[..., Any] | None,
    *,
    lasting: bool = False,
) -> None:
    """The second call of ``name`` fails (``lasting``: and all later ones). ``before``: what it does nevertheless."""
    real = getattr(Service, name)
    calls = 0

    def failing_step(self: Service, *arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 or (lasting and calls > 2):
            if before is not None:
                before(self, *arguments, **keywords)
            raise error
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(Service, name, failing_step)
