"""authorize, revoke, check: what a program may do, and why not."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import Any

import pytest

from cli.lab import script
from daemon.requests import PENDING, SUCCESS, denied, read, write
from support.world import World

FULL = {
    "allowed_read_services": ["aws"],
    "allowed_write_services": ["aws"],
    "can_search": True,
    "allowed_targets": None,
}
NOTHING = {"allowed_read_services": [], "allowed_write_services": [], "can_search": False, "allowed_targets": None}


@pytest.fixture
def program(world: World) -> str:
    """A registered program without permission."""
    path = world.build_client()
    world.cli_json("register", path)
    return path


def grants(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in FULL}


def test_a_policy_that_is_a_link_stays_one(world: World, program: str) -> None:
    kept = world.path("dotfiles-config.json")
    os.rename(world.policy_path, kept)
    os.symlink(kept, world.policy_path)
    assert world.cli_json("authorize", program, "aws")["outcome"] == "authorized"
    assert os.readlink(world.policy_path) == kept
    assert world.read_policy()["registered_binaries"][0]["allowed_read_services"] == ["aws"]


def test_an_entry_by_a_link_is_told_to_match_nobody(world: World) -> None:
    program = world.build_client()
    link = world.path("bin/link")
    os.symlink(program, link)
    world.write_policy({"registered_binaries": [{**world.entry(program, ["aws"]), "path": link}]})
    world.start()
    assert world.talker(link).ask(read("a")) == denied(PENDING)
    done = world.cli("check", link, "aws", "--read")
    assert done.returncode == 3
    assert f"path: wanted {program}, found no entry for this path" in done.stdout
    assert f"Next: keychain-auth register {program}" in done.stdout
    assert f"{link} would be refused" in world.cli("doctor").stdout


# --- authorize --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), FULL),
        (("--read",), {**NOTHING, "allowed_read_services": ["aws"]}),
        (("--write",), {**NOTHING, "allowed_write_services": ["aws"]}),
        (("--search",), {**NOTHING, "can_search": True}),
        (("--read", "--write"), {**FULL, "can_search": False}),
        (("--targets", "prod:", "--targets", "dev:"), {**FULL, "allowed_targets": ["prod:", "dev:"]}),
        (("--read", "--targets", "p"), {**NOTHING, "allowed_read_services": ["aws"], "allowed_targets": ["p"]}),
    ],
    ids=str,
)
def test_authorize(world: World, program: str, flags: tuple[str, ...], expected: dict[str, Any]) -> None:
    answer = world.cli_json("authorize", program, "aws", *flags)
    assert (answer["outcome"], answer["path"], answer["service"]) == ("authorized", program, "aws")
    assert grants(answer) == expected
    (entry,) = world.cli_json("list")["entries"]
    assert grants(entry) == expected


def test_a_limit_alone_gives_nothing_to_who_has_something(world: World, program: str) -> None:
    # The command that a denial proposes (--targets PREFIX) must not turn a reader into a writer.
    world.cli_json("authorize", program, "aws", "--read")
    answer = world.cli_json("authorize", program, "aws", "--targets", "p")
    assert grants(answer) == {**NOTHING, "allowed_read_services": ["aws"], "allowed_targets": ["p"]}


def test_a_limit_alone_gives_nothing_to_who_has_something_for_a_time(world: World, program: str) -> None:
    # What `explain` proposes for a name outside of the limit must not make the grant of a moment one for good.
    world.allow(program, allowed_targets=["prod:"])
    world.cli_json("authorize", program, "aws", "--target", "prod:token", "--for", "10m")
    [before] = world.read_policy()["registered_binaries"]
    told = world.cli("explain", program, "aws", "dev:token", "--action", "read", "--json").stdout
    refused = json.loads(told)["actions"]["read"]
    assert refused["mend"] == f"keychain-auth authorize {program} aws --targets PREFIX"
    words = shlex.split(refused["mend"].replace("PREFIX", "dev:"))
    assert world.cli(*words[1:]).returncode == 0
    [after] = world.read_policy()["registered_binaries"]
    assert after == {**before, "allowed_targets": ["prod:", "dev:"]}


_GONE_AT_ONCE = """
import subprocess, sys
from keychain_auth.cli.commands.permitting import grants
from keychain_auth.cli.shared import config_file
really_change = config_file.change

def change(*words):
    result = really_change(*words)
    subprocess.run([sys.executable, "-m", "keychain_auth", "unregister", sys.argv[1]], check=True, capture_output=True)
    return result

config_file.change = change
grants.authorize([sys.argv[1], "aws", "--for", "10m", "--json"], standalone_mode=False)
"""


def test_a_grant_is_told_even_if_it_is_gone_again(world: World, program: str) -> None:
    """Another command takes the program out, after this one wrote its grant and before it says so."""
    done = subprocess.run(
        [world.python, "-c", _GONE_AT_ONCE, program], env=world.environment(), cwd="/", capture_output=True,
        check=False, **world.user.popen(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["grant"]["service"] == "aws"
    assert world.read_policy()["registered_binaries"] == []


@pytest.mark.parametrize("options", [("--target", "", "--for", "1m"), ("--targets", "")])
def test_a_name_that_is_none_is_called_what_it_is(world: World, program: str, options: tuple[str, ...]) -> None:
    what = "target prefix" if options[0] == "--targets" else "target"
    done = world.cli("authorize", program, "aws", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(f"a {what} has 1 to ")


def test_grants_add_up(world: World, program: str) -> None:
    world.cli_json("authorize", program, "aws", "--read")
    world.cli_json("authorize", program, "openai", "--write", "--targets", "a:")
    answer = world.cli_json("authorize", program, "aws", "--read", "--targets", "a:", "--targets", "b:")
    assert grants(answer) == {
        "allowed_read_services": ["aws"], "allowed_write_services": ["openai"], "can_search": False,
        "allowed_targets": ["a:", "b:"],
    }  # fmt: skip


def test_authorize_of_what_is_not_registered(world: World) -> None:
    path = world.build_client()
    done = world.cli("authorize", path, "aws")
    assert done.returncode == 6
    assert done.stderr.splitlines() == [f"{path} is not registered", f"Next: keychain-auth register {path}"]


@pytest.mark.parametrize("service", ["", "x" * 257, "tab\there", "\x7f"])
def test_a_service_that_nobody_could_ask_for_is_refused(world: World, program: str, service: str) -> None:
    done = world.cli("authorize", program, service)
    assert done.returncode == 2
    assert world.cli("authorize", program, "aws", "--targets", service * 5).returncode == 2
    assert grants(world.cli_json("list")["entries"][0]) == NOTHING


# --- revoke -----------------------------------------------------------------------------------


def test_revoke_takes_one_service_or_all(world: World, program: str) -> None:
    world.cli_json("authorize", program, "aws")
    world.cli_json("authorize", program, "openai", "--read")
    answer = world.cli_json("revoke", program, "aws")
    assert (answer["outcome"], answer["service"], answer["allowed_read_services"]) == ("revoked", "aws", ["openai"])
    assert grants(world.cli_json("revoke", program)) == NOTHING
    assert len(world.cli_json("list")["entries"]) == 1


def test_revoke_of_nothing_is_told(world: World, program: str) -> None:
    world.cli_json("authorize", program, "aws")
    done = world.cli("revoke", program, "asw")  # a slip of the fingers must not look like success
    assert done.returncode == 6
    assert "no permission for asw" in done.stderr
    world.cli_json("revoke", program)
    assert world.cli("revoke", program).returncode == 6
    assert world.cli("revoke", "/no/such/program").returncode == 6


def test_revoke_reaches_an_open_connection_of_a_deleted_program(world: World, program: str) -> None:
    world.start()
    world.cli_json("authorize", program, "aws")
    talker = world.talker(program)
    assert talker.ask(write({"a": "1"})) == SUCCESS
    world.cli_json("revoke", program, "aws")
    assert talker.ask(read("a")) == denied("service_not_allowed")
    os.unlink(program)
    world.cli_json("unregister", program)
    assert talker.ask(read("a")) == denied(PENDING)


# --- check ------------------------------------------------------------------------------------


def test_check_of_what_is_not_registered(world: World) -> None:
    path = world.build_client()
    done = world.cli("check", path)
    assert (done.returncode, done.stdout) == (6, "")
    assert f"Next: keychain-auth register {path}" in done.stderr
    done = world.cli("check", script(world))
    assert f"Next: keychain-auth register --script {world.path('bin/app.py')}" in done.stderr
    done = world.cli("check", "/no/such/file", "--json")
    assert done.returncode == 6
    assert '"registered": false' in done.stdout


def test_check_says_for_each_action_why_not(world: World, program: str) -> None:
    assert world.cli_json("check", program)["allowed"] is True
    world.cli_json("authorize", program, "aws", "--read")
    done = world.cli("check", program, "aws")
    assert done.returncode == 3
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "may read aws" in lines
    assert f"Next: keychain-auth authorize {program} aws --write" in lines
    assert f"Next: keychain-auth authorize {program} aws --search" in lines
    for flag in ("--write", "--search"):  # the commands that it proposed mend it
        world.cli_json("authorize", program, "aws", flag)
    answer = world.cli_json("check", program, "aws")
    assert answer["actions"] == {action: {"allowed": True} for action in ("read", "write", "search")}
    assert (answer["registered"], answer["fits"], answer["allowed"]) == (True, True, True)


def test_check_tells_a_changed_file(world: World, program: str) -> None:
    world.cli_json("authorize", program, "aws")
    world.build_client(variant="other")
    done = world.cli("check", program, "aws")
    assert done.returncode == 3
    assert f"Next: keychain-auth upgrade {program}" in done.stdout
    os.unlink(program)
    done = world.cli("check", program)
    assert done.returncode == 3
    assert "does not exist" in done.stdout


def test_check_of_an_interpreter_that_somebody_wrote_into_the_policy(world: World) -> None:
    interpreter = world.installation.interpreter
    world.allow(interpreter, ["aws"], ["aws"], True)
    done = world.cli("check", interpreter, "aws")
    assert done.returncode == 3
    assert "Next: keychain-auth register --script SCRIPT" in done.stdout


def test_check_of_a_script(world: World) -> None:
    path = script(world)
    world.cli_json("register", "--script", path)
    world.cli_json("authorize", path, "aws")
    assert world.cli_json("check", path, "aws")["entry"]["interpreter"] == world.installation.interpreter
    said = world.cli("check", path).stdout
    assert f"grade launched when it is started by keychain-auth launch {path}; at least launched is asked for" in said
    script(world, text="#!/bin/sh\n")
    assert world.cli("check", path).returncode == 3
