"""Real daemons with a service in the desktop's keyring: programs, people, migration, trouble."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.requests import PENDING, SUCCESS, failed, read, request, results, write
from support.daemon import Daemon
from support.lines import until
from support.secret_service import Desktop
from support.talker import Talker
from support.world import World

SECRET = "a value that is nowhere in the clear"
SETTINGS = '[keychains]\nroutes = { "desk*" = "secret-service" }\n'


@pytest.fixture
def routed(desktop: Desktop) -> World:
    """A world whose services ``desk…`` lie in the desktop's keyring; its daemon runs."""
    desktop.world.write_settings(SETTINGS)
    start(desktop)
    return desktop.world


def start(desktop: Desktop) -> Daemon:
    return desktop.world.start(env=desktop.env)


def talker(world: World) -> Talker:
    return world.talker(world.granted("talker", "desk", "aws"))


def test_programs_and_people_reach_the_desktop(desktop: Desktop, routed: World) -> None:
    program = talker(routed)
    assert program.ask(write({"key": SECRET, "other": "2"}, "desk", attributes={"team": "x"})) == SUCCESS
    assert program.ask(write({"key": "in the vault"})) == SUCCESS
    assert desktop.lookup("service", "desk", "username", "key", "team", "x") == SECRET
    assert desktop.lookup("service", "aws", "username", "key") == ""
    desktop.store("from outside", "service", "desk", "username", "third")
    found = program.ask(read("third", "key", service="desk"))
    assert found == results(
        {"target": "third", "value": "from outside"}, {"target": "key", "value": SECRET, "attributes": {"team": "x"}}
    )
    assert [row["target"] for row in program.ask(request("search", "desk"))["results"]] == ["key", "other", "third"]
    assert program.ask(request("delete", "desk", targets=["o"], match="prefix")) == SUCCESS
    assert program.ask(read("key")) == results({"target": "key", "value": "in the vault"})

    assert routed.cli("get", "desk", "third").stdout == "from outside"
    assert routed.cli("set", "desk", "fourth", input="by hand").returncode == 0
    assert desktop.lookup("service", "desk", "username", "fourth") == "by hand"
    assert routed.cli("rm", "desk", "fourth").returncode == 0
    listed = [(row["service"], row["target"]) for row in routed.cli_json("list-secrets")]
    assert listed == [("aws", "key"), ("desk", "key"), ("desk", "third")]
    assert [row["service"] for row in routed.cli_json("list-secrets", "--keychain", "vault")] == ["aws"]
    assert routed.cli("list-secrets", "--keychain", "nowhere").returncode == 6
    for words in (("history", "desk", "key"), ("restore-value", "desk", "key"), ("history", "desk", "key", "--forget")):
        done = routed.cli(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "only the vault does" in done.stderr
    routed.assert_nowhere(SECRET)


def test_a_read_of_the_desktop_and_one_of_the_vault_in_one_write_keep_their_order(
    desktop: Desktop, routed: World
) -> None:
    program = talker(routed)
    program.ask(write({"a": "desk"}, "desk"))
    program.ask(write({"a": "vault"}))
    lines = [read("a", service="desk"), read("a"), read("a", service="desk"), request("check", "desk"), read("a")]
    program.send(*lines)
    answers = [program.answer() for _ in lines]
    assert [answer.get("results", [{}])[0].get("value") if answer.get("results") else None for answer in answers] == [
        "desk", "vault", "desk", None, "vault"
    ]  # fmt: skip


def test_locked_gone_and_back(desktop: Desktop, routed: World) -> None:
    program = talker(routed)
    assert program.ask(write({"key": SECRET}, "desk")) == SUCCESS
    assert program.ask(write({"key": "v"})) == SUCCESS
    desktop.lock()
    assert program.ask(read("key", service="desk")) == failed("keychain_locked")
    assert program.ask(write({"key": "new"}, "desk")) == failed("keychain_locked")
    done = routed.cli("get", "desk", "key")
    assert (done.returncode, done.stdout) == (5, "")
    assert "only a person can open it" in done.stderr
    assert program.ask(read("key")) == results({"target": "key", "value": "v"})
    assert state(routed)["state"] == "locked"
    assert "locked" in routed.cli("status").stdout
    done = routed.cli("list-secrets")
    assert done.returncode == 5
    assert "list-secrets --keychain" in done.stderr
    assert [row["service"] for row in routed.cli_json("list-secrets", "--keychain", "vault")] == ["aws"]
    desktop.stop_keyring()
    assert program.ask(read("key", service="desk")) == failed("internal_error")
    assert state(routed)["state"] == "not reachable"
    desktop.start_keyring()
    assert program.ask(read("key", service="desk")) == results({"target": "key", "value": SECRET})
    assert state(routed) == {"backend": "secret-service", "collection": "default", "state": "open"}
    reasons = [line["reason"] for line in routed.audit() if line["result"] == "ERROR" and line["action"] == "write"]
    assert reasons == ["keychain_locked"]


# The command starts before it is timed: on a busy machine, that alone takes seconds.
STATUS = """
import time
from keychain_auth.client import admin
print("ready", flush=True)
input()
began = time.monotonic()
told = admin.ask("status")
print(told["keychains"]["keychains"]["patient"]["state"], time.monotonic() - began, flush=True)
"""


def test_it_stops_in_time_while_the_keyring_hangs(desktop: Desktop) -> None:
    world = desktop.world
    world.write_settings(
        '[keychains.routes]\n"desk*" = "patient"\n[keychains.stores.patient]\nkind = "secret-service"\nseconds = 3.0\n'
    )
    daemon = start(desktop)
    program = talker(world)
    assert program.ask(write({"key": SECRET}, "desk")) == SUCCESS
    asking = world.spawn([world.python, "-c", STATUS], env={"KEYCHAIN_AUTH_SOCKET": world.socket})
    asking.out.find(lambda line: line == b"ready")
    with desktop.hung():
        program.send(read("key", service="desk"), write({"key": "new"}, "desk"))
        asking.feed(b"\n")
        state, took = asking.out[asking.out.find(lambda line: line != b"ready")].decode().split()
        assert state == "open"
        assert float(took) < 3  # a probe is waited for one second
        assert daemon.stop() == 0
    assert program.answer() == failed("internal_error")


def state(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.cli_json("status")["keychains"]["keychains"]["secret-service"]
    return found


def test_a_service_moves_into_the_vault(desktop: Desktop, world: World) -> None:
    """As its documentation says: dry run, copy, route, delete."""
    desktop.world.write_settings(SETTINGS)
    daemon = start(desktop)
    desktop.store(SECRET, "service", "desk", "username", "a", "team", "x")
    desktop.store("2", "service", "desk", "account", "b")
    words = ("migrate", "desk", "--from", "secret-service", "--to", "vault")
    dry = world.cli_json(*words, "--dry-run")
    assert (dry["copied"], dry["dry_run"]) == (["a", "b"], True)
    looked = [(line["action"], line["targets"], line["detail"]) for line in world.audit() if line.get("detail")]
    assert looked[-1] == ("admin_search", ["a", "b"], "compared in secret-service and vault")
    assert world.cli_json("list-secrets", "desk", "--keychain", "vault") == []
    assert (
        world.cli("migrate", "desk", "--from", "secret-service", "--to", "vault", "--dry-run", "--delete").returncode
        == 2
    )

    text = world.cli(*words).stdout
    assert text.startswith("desk, from secret-service to vault: 2 copied, 0 there already\n")
    assert 'programs still get desk from secret-service. To change that: "desk" = "vault" in daemon.toml' in text
    done = world.cli(*words, "--delete")  # copied, but programs still read it there
    assert done.returncode == 2
    assert "programs still get desk from secret-service: nothing was removed" in done.stderr
    assert [row["target"] for row in world.cli_json("list-secrets", "desk", "--keychain", "vault")] == ["a", "b"]
    assert len(desktop.items()) == 2

    daemon.stop()
    world.write_settings('[keychains.routes]\ndesk = "vault"\n')
    start(desktop)
    program = talker(world)
    assert program.ask(read("a", "b", service="desk")) == results(
        {"target": "a", "value": SECRET, "attributes": {"team": "x"}}, {"target": "b", "value": "2"}
    )
    desktop.store("changed by another program", "service", "desk", "account", "b")
    done = world.cli(*words, "--delete")
    assert done.returncode == 1
    assert "b has another value there" in done.stdout
    assert "--replace" in done.stderr
    assert len(desktop.items()) == 2
    told = world.cli_json(*words, "--replace", "--delete")
    assert (told["copied"], told["alike"], told["removed"]) == (["b"], ["a"], ["a", "b"])
    assert desktop.items() == []
    assert world.cli("get", "desk", "b").stdout == "changed by another program"
    moved = [
        (line["action"], line["targets"], line["detail"])
        for line in world.audit()
        if line["action"].startswith("admin_migrate") and line["result"] == "GRANTED"
    ]
    assert moved == [
        ("admin_migrate", ["a", "b"], "from secret-service to vault"),
        ("admin_migrate", ["b"], "from secret-service to vault"),
        ("admin_migrate_remove", ["a", "b"], "from secret-service to vault"),
    ]
    world.assert_nowhere(SECRET)


def test_a_migration_that_was_killed_is_finished_by_the_next(desktop: Desktop, world: World) -> None:
    world.write_settings(SETTINGS)
    daemon = start(desktop)
    names = {f"key {number:03}": f"value {number}" for number in range(75)}
    assert talker(world).ask(write(names, attributes={"team": "x"})) == SUCCESS
    words = ("migrate", "aws", "--from", "vault", "--to", "secret-service")
    command = world.spawn([world.python, "-m", "keychain_auth.cli.main", *words], env=desktop.env)
    until(lambda: sum(line["action"] == "admin_migrate" for line in world.audit()) == 2, "the second step has begun")
    daemon.kill()
    assert command.wait() == 1
    assert b"read back what the command changes" in command.err.text().encode()
    start(desktop)
    told = world.cli_json(*words)
    assert len(told["copied"]) + len(told["alike"]) == 75
    assert 50 <= len(told["alike"]) < 75
    assert len(desktop.items()) == 75
    assert desktop.lookup("service", "aws", "username", "key 074", "team", "x") == "value 74"
    assert world.cli_json(*words)["copied"] == []
    assert len(world.cli_json("list-secrets", "aws")) == 75  # nothing was removed


def test_expected_open_what_lies_in_the_desktop_is_everybodys(desktop: Desktop, routed: World) -> None:
    """A program that no entry knows: the daemon refuses it, the Secret Service does not."""
    assert talker(routed).ask(write({"key": SECRET}, "desk")) == SUCCESS
    stranger = routed.talker(routed.build_client("stranger", "other"))
    assert stranger.ask(read("key", service="desk"))["reason"] == PENDING
    assert desktop.lookup("service", "desk", "username", "key") == SECRET
    lines = [line for line in routed.audit() if line["result"] == "GRANTED" and line["action"] == "read"]
    assert lines == []


def test_a_migration_of_a_locked_collection_says_so(desktop: Desktop, routed: World) -> None:
    desktop.lock()
    done = routed.cli("migrate", "desk", "--from", "secret-service", "--to", "vault")
    assert done.returncode == 5
    assert "is locked" in done.stderr
    assert routed.cli("migrate", "desk", "--from", "vault", "--to", "vault").returncode == 2
    assert routed.cli("migrate", "desk", "--from", "vault", "--to", "nowhere").returncode == 6


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ('[keychains]\ndefault = "nowhere"\n', "there is no keychain 'nowhere'"),
        ('[keychains.routes]\n"a*" = "nowhere"\n', "there is no keychain 'nowhere'"),
        ('[keychains.stores.vault]\nkind = "secret-service"\n', "is the name of the vault"),
        ('[keychains.stores.x]\nkind = "unheard-of"\n', "unheard-of"),
        ('[keychains.stores.x]\ncollection = "login"\n', "kind"),
        ('[keychains.stores.x]\nkind = "secret-service"\nseconds = 0.0\n', "must be greater than 0"),
        ('[keychains.routes]\n"" = "vault"\n', "1 to 256 characters"),
    ],
)
def test_keychains_that_there_are_not_stop_the_start(world: World, settings: str, complaint: str) -> None:
    world.write_settings(settings)
    done = world.cli("start", "--socket", world.socket)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "daemon.toml" in done.stderr


def test_the_desktop_can_be_the_default_and_collections_have_names(desktop: Desktop) -> None:
    world = desktop.world
    path = desktop.create_collection("Wörk")
    world.write_settings(
        '[keychains]\ndefault = "secret-service"\n[keychains.routes]\naws = "vault"\n"work-*" = "work"\n'
        '[keychains.stores.work]\nkind = "secret-service"\ncollection = "Wörk"\n'
    )
    start(desktop)
    for service in ("aws", "anything", "work-db"):
        assert world.cli("set", service, "key", input=f"of {service}").returncode == 0
    assert [item["service"] for item in desktop.items()] == ["anything"]
    assert [item["service"] for item in desktop.items(path)] == ["work-db"]
    assert [row["service"] for row in world.cli_json("list-secrets")] == ["anything", "aws", "work-db"]
    text = world.cli("status").stdout
    assert "aws to vault, work-* to work, all others to secret-service" in text


def test_locked_is_locked_whichever_keychain_a_service_lies_in(desktop: Desktop, routed: World) -> None:
    """What a program may have, and the record of it, rest on the vault."""
    program = talker(routed)
    assert program.ask(write({"key": SECRET}, "desk")) == SUCCESS
    routed.cli("lock")
    for asked in (read("key", service="desk"), write({"key": "x"}, "desk"), request("search", "desk")):
        assert program.ask(asked) == failed("keychain_locked")
    for words in (("get", "desk", "key"), ("list-secrets",), ("rm", "desk", "key")):
        done = routed.cli(*words)
        assert (done.returncode, done.stdout) == (5, "")
    assert routed.cli("unlock").returncode == 0
    assert program.ask(read("key", service="desk")) == results({"target": "key", "value": SECRET})
