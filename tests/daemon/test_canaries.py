"""Canaries: whoever reaches for one is cut off, held, and told of in every way there is; and cannot see it coming."""

from __future__ import annotations

import os
from typing import Any

import pytest

from daemon.requests import PENDING, SUCCESS, denied, read, request, write
from support import desktop
from support.desktop import NOTIFICATIONS, PORTAL, Desktop
from support.lines import until
from support.person import protect, told
from support.world import World

BAIT = "prod:ROOT_KEY"


@pytest.fixture
def trapped(running: World) -> World:
    """A world with some secrets and a canary among them."""
    running.granted("talker", "aws")
    assert running.talker(running.path("bin/talker")).ask(write({"dev:a": "1", "prod:b": "2"})) == SUCCESS
    assert running.cli("canary", "add", "aws", BAIT).returncode == 0
    return running


@pytest.fixture
def running(world: World) -> World:
    world.start()
    return world


def talker(world: World) -> Any:
    return world.talker(world.path("bin/talker"))


def alarms(world: World) -> list[dict[str, Any]]:
    return [line for line in world.audit() if line["action"] == "canary"]


@pytest.mark.parametrize(
    "asked",
    [
        read(BAIT),
        read("dev:a", BAIT, "prod:b"),
        read("prod:", match="prefix"),
        write({BAIT: "x"}),
        request("delete", targets=[BAIT]),
        request("delete", targets=["prod"], match="prefix"),
    ],
    ids=["exact", "in a batch", "prefix", "write", "delete", "prefix delete"],
)
def test_who_reaches_for_a_canary_gets_nothing_and_is_held(trapped: World, asked: dict[str, Any]) -> None:
    other = trapped.granted("other", "aws", variant="two")
    waiting, thief = talker(trapped), talker(trapped)
    assert thief.ask(asked) == denied(PENDING)
    thief.eof()
    assert waiting.ask(read("dev:a")) == denied(PENDING)  # his other connection
    waiting.eof()
    assert talker(trapped).ask(read("dev:a")) == denied(PENDING)  # coming back does not help
    [alarm] = alarms(trapped)
    assert (alarm["result"], alarm["binary_path"]) == ("DENIED", trapped.path("bin/talker"))
    assert alarm["targets"] == [BAIT]
    assert trapped.talker(other).ask(read("dev:a"))["status"] == "success"  # nobody else is concerned
    names = [item["target"] for item in trapped.talker(other).ask(request("search"))["results"]]
    assert names == ["dev:a", BAIT, "prod:b"]  # nothing was removed


def test_what_covers_no_canary_and_searches_fire_nothing(trapped: World) -> None:
    thief = talker(trapped)
    assert [item["target"] for item in thief.ask(request("search"))["results"]] == ["dev:a", BAIT, "prod:b"]
    assert len(thief.ask(read("dev:", match="prefix"))["results"]) == 1
    assert thief.ask(read("prod:b", "prod:ROOT"))["status"] == "success"
    assert thief.ask(read(BAIT, service="AgentSecrets")) == denied("service_not_allowed")
    assert alarms(trapped) == []


def test_a_pipelined_harvest_ends_at_the_canary(trapped: World) -> None:
    """Everything behind it in the same packet is lost, too."""
    thief = talker(trapped)
    thief.send(read("dev:a"), read(BAIT), read("prod:b"))
    thief.eof()
    assert thief.answer()["status"] == "success"
    assert thief.answer() == denied(PENDING)
    assert len(thief.answers()) == 2


def test_it_looks_exactly_like_a_grant_that_was_taken_away(trapped: World) -> None:
    revoked = trapped.granted("revoked", "aws", variant="three")
    victim, thief = trapped.talker(revoked), talker(trapped)
    assert victim.ask(read("dev:a"))["status"] == "success"
    assert trapped.cli("unregister", revoked).returncode == 0
    assert victim.ask(read("dev:a")) == thief.ask(read(BAIT))
    victim.eof()
    thief.eof()
    assert trapped.talker(revoked).ask(read("a")) == talker(trapped).ask(read("a"))


def test_nobody_can_see_which_secret_is_a_canary(trapped: World) -> None:
    trapped.assert_nowhere(BAIT)  # neither in the record, nor in the policy, nor in the settings
    assert BAIT not in trapped.cli("status", "--json").stdout
    assert {line["action"] for line in trapped.audit()} >= {"admin_canary_add"}
    found = talker(trapped).ask(request("search"))["results"]
    assert all(set(item) == {"target"} for item in found)


def test_its_attributes_do_not_tell_it_from_the_others(running: World) -> None:
    """A search shows attributes: where all secrets have some, a canary without any can be left out of a harvest."""
    running.granted("talker", "aws")
    assert talker(running).ask(write({"a": "1", "b": "2"}, attributes={"username": "me"})) == SUCCESS
    assert running.cli("canary", "add", "aws", BAIT).returncode == 0
    found = talker(running).ask(request("search"))["results"]
    assert sorted(item["target"] for item in found) == ["a", "b", BAIT]
    assert [item.get("attributes") for item in found] == [{"username": "me"}] * 3
    assert talker(running).ask(read("prod", match="prefix", attributes={"username": "me"}))["status"] == "denied"


def test_who_is_held_is_not_in_the_queue_and_stays_held_over_a_restart_and_an_upgrade(world: World) -> None:
    daemon = world.start()
    program = world.granted("talker", "aws")
    assert world.cli("canary", "add", "aws", BAIT, "--value-stdin", input="hunter2").returncode == 0
    assert world.talker(program).ask(read(BAIT)) == denied(PENDING)
    assert world.pending() == []
    assert daemon.stop() == 0
    world.start()
    assert world.talker(program).ask(read("a")) == denied(PENDING)
    world.granted("talker", "aws", variant="newer")  # a new file at the path
    assert world.talker(program).ask(read("a")) == denied(PENDING)
    copy = world.granted("copy", "aws")  # the same bytes at another one
    assert world.talker(copy).ask(read("a")) == denied(PENDING)
    world.assert_nowhere("hunter2")
    assert world.cli("audit", "verify").returncode == 0


def test_status_and_doctor_name_who_is_held_until_a_person_releases_it(trapped: World) -> None:
    program = trapped.path("bin/talker")
    talker(trapped).ask(read(BAIT))
    assert [held["program"] for held in trapped.cli_json("status")["held"]] == [program]
    assert "REACHED FOR A CANARY" in trapped.cli("status").stdout
    done = trapped.cli("doctor", "--quiet")
    assert done.returncode == 1
    assert f"Next: keychain-auth canary release {program}" in done.stdout
    assert [held["program"] for held in trapped.cli_json("canary", "list")["held"]] == [program]
    explained = trapped.cli("explain", program, "aws", "dev:a", "--action", "read")
    assert explained.returncode == 3
    assert "held: wanted no canary touched" in explained.stdout
    assert f"Next: keychain-auth canary release {program}" in explained.stdout
    checked = trapped.cli("check", program, "aws")
    assert checked.returncode == 3
    assert "may not read aws" in checked.stdout
    assert "may read" not in checked.stdout
    assert f"Next: keychain-auth canary release {program}" in checked.stdout
    assert trapped.cli("canary", "release", program).returncode == 0
    assert "may read aws" in trapped.cli("check", program, "aws").stdout
    assert trapped.cli("explain", program, "aws", "dev:a", "--action", "read").returncode == 0
    assert talker(trapped).ask(read("dev:a"))["status"] == "success"
    assert trapped.cli_json("status")["held"] == []
    assert trapped.cli("canary", "release", program).returncode == 6


def test_a_script_is_held_and_its_interpreter_is_not(running: World) -> None:
    """Two launched scripts of one Python: one reaches for the canary, the other is served."""
    text = (
        "import json, socket, sys\n"
        "connection = socket.socket(socket.AF_UNIX)\n"
        f"connection.connect({running.socket!r})\n"
        "asked = {'type': 'REQUEST', 'action': 'read', 'service': 'aws', 'targets': sys.argv[1:]}\n"
        "connection.sendall(json.dumps(asked).encode() + b'\\n')\n"
        "answer = json.loads(connection.makefile().readline())\n"
        "print(answer)\n"
        "sys.exit(answer['status'] != 'success')\n"
    )
    running.cli("set", "aws", "a", input="v")
    running.cli("canary", "add", "aws", BAIT)
    for name in ("good.py", "bad.py"):
        script = running.write(f"bin/{name}", f"#!{running.installation.interpreter}\n# {name}\n{text}", 0o700)
        done = running.cli("register", "--script", script, "--interpreter", running.python)
        assert done.returncode == 0, done.stderr
        running.cli("authorize", script, "aws")
    assert running.cli("launch", running.path("bin/bad.py"), BAIT).returncode != 0
    assert running.cli("launch", running.path("bin/bad.py"), "a").returncode != 0
    good = running.cli("launch", running.path("bin/good.py"), "a")
    assert "'value': 'v'" in good.stdout, good.stderr


# --- the command line ---------------------------------------------------------------------------


def test_the_command_line_is_no_way_around(trapped: World) -> None:
    """get and export are what a thief tries who knows the tools; to him there is no such secret."""
    done = trapped.cli("get", "aws", BAIT)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == trapped.cli("get", "aws", "prod:NO_SUCH").stderr.replace("prod:NO_SUCH", BAIT)
    exported = trapped.cli("export", "--format", "json", "-")
    assert BAIT not in exported.stdout
    assert "dev:a" in exported.stdout
    found = alarms(trapped)
    assert [line["targets"] for line in found] == [[BAIT], [BAIT]]
    assert "get reached for a canary; started by " in found[0]["detail"]
    assert talker(trapped).ask(read("dev:a"))["status"] == "success"  # no program did it, so none is held


def test_the_record_says_who_started_the_command_that_did_it(trapped: World) -> None:
    hook = trapped.write("bin/postinstall.sh", f"{trapped.python} -m keychain_auth get aws {BAIT}; true\n")
    assert trapped.spawn(["sh", hook]).wait() == 0
    [alarm] = alarms(trapped)
    assert f"{os.path.realpath('/bin/sh')} (" in alarm["detail"]


def test_a_canary_takes_no_name_that_is_in_use(trapped: World) -> None:
    done = trapped.cli("canary", "add", "aws", "dev:a")
    assert done.returncode == 2
    assert "would be cut off" in done.stderr
    assert trapped.cli("canary", "add", "aws", "x\ty").returncode == 2
    assert trapped.cli("canary", "remove", "aws", "dev:a").returncode == 6


def test_a_canary_that_is_removed_leaves_nothing(trapped: World) -> None:
    listed = trapped.cli_json("canary", "list")
    assert listed == {"canaries": [{"service": "aws", "target": BAIT}], "held": []}
    assert trapped.cli("canary", "remove", "aws", BAIT).returncode == 0
    assert trapped.cli_json("canary", "list")["canaries"] == []
    assert talker(trapped).ask(read(BAIT)) == {**SUCCESS, "results": []}


def test_with_a_passphrase_only_a_person_may_ask_which_they_are(world: World) -> None:
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    world.start()
    protect(world, key_file=True)
    assert world.cli("canary", "list").returncode == 5
    assert world.cli("canary", "add", "aws", BAIT).returncode == 5
    told(world, "canary", "add", "aws", BAIT)
    program = world.build_client()
    world.allow(program, ["aws"])
    told(world, "policy", "seal")
    assert world.cli("lock").returncode == 0
    told(world, "unlock")
    assert world.talker(program).ask(read(BAIT)) == denied(PENDING)  # known again after a lock
    assert world.cli("lock").returncode == 0
    assert world.talker(program).ask(read("a")) == denied(PENDING)  # and held while it is locked


# --- the desktop --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [NOTIFICATIONS, PORTAL])
def test_the_desktop_is_told_in_plain_text(world: World, name: str) -> None:
    if reason := desktop.missing():
        pytest.skip(reason)
    shown = Desktop(world, name)
    world.start(env=shown.env)
    program = world.granted("<b>talker", "aws")
    world.cli("canary", "add", "aws", BAIT)
    world.talker(program).ask(read(BAIT))
    notification = shown.shown("canary was touched")
    if name == NOTIFICATIONS:
        assert BAIT in notification[4] and "&lt;b&gt;talker" in notification[4]
    else:
        assert "<b>talker" in notification[1]["body"][1]  # the portal's text is no markup
    until(lambda: world.cli_json("status")["notifications"] == name, "the daemon says who showed it")


def test_without_a_desktop_nothing_is_missed(trapped: World) -> None:
    talker(trapped).ask(read(BAIT))
    until(lambda: trapped.cli_json("status")["notifications"] not in ("", "nothing to tell yet"), "the daemon tried")
    assert len(alarms(trapped)) == 1


def test_notifications_can_be_turned_off(world: World) -> None:
    if reason := desktop.missing():
        pytest.skip(reason)
    shown = Desktop(world)
    world.write_settings("notifications = false\n")
    daemon = world.start(env=shown.env)
    program = world.granted("talker", "aws")
    world.cli("canary", "add", "aws", BAIT)
    world.talker(program).ask(read(BAIT))
    daemon.wait_log("CANARY")
    assert world.cli_json("status")["notifications"] == "off"
    assert shown.count == 0
