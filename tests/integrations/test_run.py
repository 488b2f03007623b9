"""keychain-auth-run: an agent's commands have what was granted behind that agent, as long and as often, and no more."""

from __future__ import annotations

import os
import subprocess

import pytest

from attacks.lab import build
from integrations.lab import Plug
from support.person import protect
from support.waiting import Onlooker
from support.world import World

NAME = "keychain-auth-run"
TOKEN = {"TOKEN": "keychain://github/token"}
SHOW = ("/bin/sh", "-c", 'printf %s "$TOKEN"; exit 7')


@pytest.fixture
def plug(world: World) -> Plug:
    made = Plug(world, NAME)
    made.keep("github", "token", "s3cret")
    made.keep("github", "other", "another")
    made.register(anyone=False)
    return made


@pytest.fixture
def agent(world: World) -> str:
    """A native program that runs commands."""
    return build(world, "starter", variant="agent")


def act(plug: Plug, agent: str, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a command that the agent runs, as agents do, through a shell."""
    line = f'"$0" "$@"; exit $?'  # noqa: F541 - the shell's own
    return plug.run(agent, "/bin/bash", "-c", line, plug.path, *(command or SHOW), env={**TOKEN, **env})


def granted(plug: Plug, agent: str, *options: str) -> None:
    plug.world.cli_json("behalf", plug.path, "--allow", agent)
    plug.world.cli_json("authorize", plug.path, "github", "--target", "token", *options)


def test_exactly_one_token_for_ten_minutes_three_times(plug: Plug, agent: str) -> None:
    granted(plug, agent, "--for", "10m", "--uses", "3", "--behind", agent)
    for _ in range(3):
        done = act(plug, agent)
        assert (done.returncode, done.stdout, done.stderr) == (7, "s3cret", "")
    done = act(plug, agent)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines() == [
        f"{NAME}: wanted keychain://github/token for /bin/sh",
        "Why not: its grant is over (grant_ended)",
        f"Next: keychain-auth explain {plug.path} github token --action read",
    ]
    lines = [line for line in plug.world.audit() if line["action"] in ("temporary", "read") and line["service"]]
    assert {line["on_behalf_of"] for line in lines} == {agent}
    assert [line["detail"][:10] for line in lines if line["action"] == "temporary"] == [
        f"use {number} of 3" for number in (1, 2, 3)
    ]
    plug.world.assert_nowhere("s3cret")


def test_not_the_other_token_and_not_another_agent(plug: Plug, agent: str, world: World) -> None:
    granted(plug, agent, "--for", "10m", "--behind", agent)
    done = act(plug, agent, TOKEN="keychain://github/other")
    assert (done.returncode, done.stdout) == (3, "")
    assert "target_not_allowed" in done.stderr
    other = build(world, "starter", variant="other")
    done = act(plug, other)
    assert "Why not: who started it is not approved" in done.stderr
    [waiting] = world.cli_json("list-pending")
    assert (waiting["path"], waiting["helper"]["path"]) == (other, plug.path)
    world.cli_json("approve", waiting["id"])
    done = act(plug, other)  # it may ask now, and nothing was granted behind it
    assert (done.returncode, done.stdout) == (3, "")
    assert "service_not_allowed" in done.stderr
    assert act(plug, agent).stdout == "s3cret"


def test_with_a_passphrase_set_the_person_is_asked_and_the_agent_is_not(plug: Plug, agent: str) -> None:
    granted(plug, agent, "--for", "10m")
    protect(plug.world)
    done = plug.world.cli("run", "true", env=TOKEN)
    assert done.returncode == 5
    assert act(plug, agent).stdout == "s3cret"
    assert plug.world.cli("lock").returncode == 0
    done = act(plug, agent)
    assert done.returncode == 5
    assert "Next: keychain-auth unlock" in done.stderr


def test_it_waits_for_a_person_to_approve_the_agent(plug: Plug, agent: str, world: World) -> None:
    plug.authorize("github", "--read")
    look = Onlooker(world)
    line = f"{plug.path} --wait 10m -- {' '.join(SHOW[:2])} '{SHOW[2]}'; exit $?"
    env = {**plug.environment(), **TOKEN}
    process = world.spawn([agent, "/bin/bash", "-c", line], env=env)
    [asked] = look.until()
    assert (asked["path"], asked["helper"]["path"]) == (agent, plug.path)
    assert process.out.all() == []
    world.cli_json("approve", asked["hash"], "--helper", plug.path)
    assert (process.wait(), process.out.text()) == (7, "s3cret")


def test_all_or_nothing_and_what_is_missing_is_listed(plug: Plug, agent: str) -> None:
    plug.world.cli_json("behalf", plug.path, "--allow", agent)
    plug.authorize("github", "--read")
    done = act(plug, agent, "/bin/echo", "started", A="keychain://github/no", B="keychain://github/nor")
    assert (done.returncode, done.stdout) == (6, "")
    assert "there is no secret for A (keychain://github/no), B (keychain://github/nor)" in done.stderr
    done = act(plug, agent, "/bin/echo", "started", A="keychain://aws/key")
    assert (done.returncode, done.stdout) == (3, "")


def test_what_the_command_gets(plug: Plug, agent: str) -> None:
    granted(plug, agent, "--for", "10m")
    code = 'test -z "$KEYCHAIN_AUTH_SCRIPT$KEYCHAIN_AUTH_CALLED_AS$LD_PRELOAD" && cat <&5 && echo "$KEPT ${TOKEN-none}"'
    done = act(plug, agent, "--fd", "TOKEN:5", "--", "/bin/sh", "-c", code, KEPT="kept", LD_PRELOAD="/nowhere.so")
    assert done.stdout == "s3cretkept none\n"


@pytest.mark.parametrize(
    "words", [("--reason", "x", "true"), ("-s", "/x", "true"), ("--fancy", "true"), ("--wait", "soon", "true"), ()]
)
def test_words_that_do_not_fit(plug: Plug, agent: str, words: tuple[str, ...]) -> None:
    granted(plug, agent, "--for", "10m")
    line = '"$0" "$@"; exit $?'
    done = plug.run(agent, "/bin/bash", "-c", line, plug.path, *words, env=TOKEN)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 3
    assert not os.path.exists(plug.world.path("started"))
