"""Locked when the machine goes to sleep or the screen is locked: with a private bus and a stand-in for logind."""

from __future__ import annotations

import pytest

from support import logind
from support.lines import until
from support.logind import Logind
from support.person import protect, told
from support.world import World


@pytest.fixture
def session(world: World) -> Logind:
    """The bus, the stand-in on it, and a daemon that sees it."""
    if reason := logind.missing():
        pytest.skip(reason)
    place = Logind(world)
    place.start()
    world.env.update(place.env)
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    return place


def watched(world: World) -> None:
    until(lambda: world.cli_json("status")["sleep"] == "watched", "the daemon listens to logind")


def is_open(world: World) -> bool:
    return world.cli("unlocked").returncode == 0


def test_sleep_and_a_locked_screen_lock_the_vault(world: World, session: Logind) -> None:
    daemon = world.start()
    protect(world, key_file=True)
    watched(world)
    mine = session.session(world.user.uid)
    for order, why in (
        ("sleep true", "the machine goes to sleep"),
        (f"lock {mine}", "the screen was locked"),
        (f"hint {mine} true", "the screen was locked"),
    ):
        seen = len(daemon.err)
        session.say(order)
        daemon.wait_log(why, seen)
        assert not is_open(world)
        told(world, "unlock")
    assert next(line["detail"] for line in world.audit() if line["action"] == "lock") == "the machine goes to sleep"


def test_what_is_no_reason(world: World, session: Logind) -> None:
    daemon = world.start()
    protect(world, key_file=True)
    watched(world)
    other = session.session(world.user.uid + 1)
    for order in ("sleep false", f"lock {other}", f"hint {other} true", "lock /org/freedesktop/login1/session/gone"):
        session.say(order)
    session.say(f"hint {session.session(world.user.uid)} false")
    assert is_open(world)
    session.say("sleep true")  # comes after all of these
    daemon.wait_log("the machine goes to sleep")
    assert "the screen was locked" not in daemon.log


def test_without_a_passphrase_nothing_is_locked(world: World, session: Logind) -> None:
    daemon = world.start()
    watched(world)
    session.say("sleep true")
    protect(world, key_file=True)
    assert is_open(world)
    session.say("sleep true")
    daemon.wait_log("the machine goes to sleep")


def test_it_can_be_turned_off(world: World, session: Logind) -> None:
    world.write_settings("[lock]\npassphrase_seconds = 0.001\non_sleep = false\n")
    daemon = world.start()
    protect(world, key_file=True)
    watched(world)
    session.say("sleep true")
    session.say(f"lock {session.session(world.user.uid)}")
    daemon.wait_log("the screen was locked")
    assert "goes to sleep" not in daemon.log


@pytest.mark.parametrize("address", ["unix:path=/nonexistent/bus", "nonsense"])
def test_without_a_bus_the_daemon_serves_and_says_so(world: World, address: str) -> None:
    if reason := logind.missing():
        pytest.skip(reason)
    world.env["DBUS_SYSTEM_BUS_ADDRESS"] = address
    daemon = world.start()
    until(lambda: "no D-Bus at" in world.cli_json("status")["sleep"], "it tried")
    assert is_open(world)
    assert "logind" not in daemon.log


def test_without_logind_on_the_bus(world: World) -> None:
    if reason := logind.missing():
        pytest.skip(reason)
    world.env.update(Logind(world).env)
    world.start()
    until(lambda: world.cli_json("status")["sleep"] == "there is no logind", "it tried")


def test_a_bus_that_ends_takes_nothing_with_it(world: World, session: Logind) -> None:
    daemon = world.start()
    watched(world)
    session.stop_bus()
    daemon.wait_log("logind is not watched any more")
    assert "gone" in world.cli_json("status")["sleep"]
    assert is_open(world)
