"""Who stands behind a helper: what a stranger tries to be given what another program's helper is given.

Each attack first wins against what others do: a helper that answers whoever starts it, or one that is content if the
right program stands anywhere above it. What wins against ours too says so in its name.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from attacks.lab import build, won
from attacks.naive import SECRET
from daemon.requests import PENDING, denied, read, results
from support.daemon import Daemon
from support.lines import until
from support.talker import Talker
from support.world import World, sha256_of

ASK = read("secret")
NOBODY = "nobody: whoever started it has ended"


@pytest.fixture
def helper(world: World, keeper: Daemon) -> str:
    """A helper that answers whoever starts it: the naive one."""
    program = world.build_client("git-credential-keychain-auth")
    world.allow(program, ["aws"])
    return program


@pytest.fixture
def requester(world: World) -> str:
    """The program that may stand behind the helper."""
    return build(world, "starter", variant="requester")


@pytest.fixture
def stranger(world: World) -> str:
    """A program that may not."""
    return build(world, "starter", variant="stranger")


def guard(world: World, helper: str, *requesters: str) -> None:
    """From now on ``helper`` answers only these."""
    allowed = [word for program in requesters for word in ("--allow", program)]
    world.cli_json("behalf", helper, "--ask", *allowed)


def started(world: World, *words: str, stranger: str = "") -> Talker:
    return world.talk([*words, world.socket], env={"STRANGER": stranger}).connected()


def asked(world: World, *words: str) -> dict[str, Any]:
    """What the helper at the end of ``words`` is answered."""
    return started(world, *words).ask(ASK)


def has_above(pid: int, program: str) -> bool:
    """What others do: look for the right program anywhere above, by the names of their executables."""
    while pid > 1:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
        if pid > 1 and os.readlink(f"/proc/{pid}/exe") == program:
            return True
    return False


def child_of(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return int(file.read().split()[0])


def test_a_stranger_who_starts_the_helper(world: World, helper: str, requester: str, stranger: str) -> None:
    assert won(asked(world, stranger, helper))
    guard(world, helper, requester)
    assert asked(world, requester, helper) == results({"target": "secret", "value": SECRET})
    assert asked(world, stranger, helper) == denied(PENDING)
    # By hand, from here: whatever runs these tests is no program that anybody approved.
    assert not won(asked(world, helper))


def test_a_pair_waits_and_is_approved_once(world: World, helper: str, stranger: str) -> None:
    guard(world, helper)
    assert asked(world, stranger, helper) == denied(PENDING)
    [waiting] = world.cli_json("list-pending")
    assert (waiting["path"], waiting["hash"]) == (stranger, sha256_of(stranger))
    assert waiting["helper"] == {"path": helper, "hash": sha256_of(helper)}
    assert waiting["command_line"].startswith(helper)
    assert helper in world.cli("list-pending").stdout
    digits = waiting["hash"].removeprefix("sha256:")[:16]
    behind = ("--helper", helper)
    assert world.cli("approve", digits, *behind, "--read", "aws").returncode == 2  # the permissions are the helper's
    assert world.cli_json("approve", digits, *behind)["helper"] == helper
    assert world.cli_json("list-pending") == []
    assert won(asked(world, stranger, helper))
    lines = [line for line in world.audit() if line["binary_path"] == helper]
    assert [(line["action"], line["result"], line.get("on_behalf_of")) for line in lines] == [
        ("connect", "DENIED", stranger),
        ("connect", "GRANTED", stranger),
        ("read", "GRANTED", stranger),
    ]
    assert lines[1]["detail"] == f"started by {stranger}"
    # It is registered for nothing else: asking for itself it is a stranger.
    assert [entry["path"] for entry in world.read_policy()["registered_binaries"]] == [helper]
    world.cli_json("behalf", helper, "--forbid", stranger)
    assert asked(world, stranger, helper) == denied(PENDING)


def test_another_version_of_the_requester_is_another_program(
    world: World, helper: str, requester: str, stranger: str
) -> None:
    guard(world, helper, requester)
    os.replace(stranger, requester)
    assert asked(world, requester, helper) == denied(PENDING)


def test_a_path_alone_stands_for_roots_file_and_no_other(world: World, helper: str, requester: str) -> None:
    world.allow(helper, ["aws"], on_behalf_of=[requester])
    assert asked(world, requester, helper) == denied(PENDING)
    world.allow(helper, ["aws"], on_behalf_of=["/usr/bin/env"])
    [entry] = world.cli_json("list")["entries"]
    assert entry["on_behalf_of"] == ["/usr/bin/env"]


def test_a_shell_only_carries(world: World, helper: str, requester: str, stranger: str) -> None:
    guard(world, helper, requester)
    line = '"$@"; exit $?'  # more than one command, so the shell stays where it is
    assert won(asked(world, requester, "/bin/sh", "-c", line, "sh", "/bin/bash", "-c", line, "bash", helper))
    assert asked(world, stranger, "/bin/sh", "-c", line, "sh", helper) == denied(PENDING)
    [record] = [line for line in world.audit() if line.get("on_behalf_of") == requester and line["action"] == "connect"]
    shells = [os.path.realpath(shell) for shell in ("/bin/bash", "/bin/sh")]
    assert record["detail"] == f"started by {' < '.join([*shells, requester])}"


def test_what_the_requester_starts_is_not_the_requester(
    world: World, helper: str, requester: str, stranger: str
) -> None:
    """A hook, a plug-in, an install script."""
    talker = started(world, requester, stranger, helper)
    assert won(talker.ask(ASK))
    assert has_above(child_of(child_of(talker.pid)), requester)
    guard(world, helper, requester)
    assert asked(world, requester, stranger, helper) == denied(PENDING)


def test_expected_open_what_the_requester_starts_as_a_shell(
    world: World, helper: str, requester: str, stranger: str
) -> None:
    """A hook that is a shell, or becomes one, or has a shell's name, stands there as the requester."""
    guard(world, helper, requester)
    hook = world.write("bin/hook", f'#!/bin/sh\n"{helper}" "$@"; exit $?\n', 0o700)
    assert won(asked(world, requester, hook))
    assert asked(world, requester, stranger, helper) == denied(PENDING)
    evil = build(world, "starter", variant="dash")  # a program of that name
    assert won(asked(world, requester, evil, helper))
    assert asked(world, stranger, evil, helper) == denied(PENDING)  # and only below the requester


def test_expected_open_code_in_the_requesters_memory_that_comes_from_no_file(
    world: World, helper: str, requester: str
) -> None:
    """A program itself is refused for that; many agents compile as they run, so a requester is not."""
    guard(world, helper, requester)
    assert won(asked(world, requester, "--memory", helper))


def test_a_helper_whose_starter_has_ended(world: World, helper: str, requester: str) -> None:
    assert won(asked(world, requester, "--orphan", helper))
    guard(world, helper, requester)
    assert not won(asked(world, requester, "--orphan", helper))


def test_expected_open_an_orphan_that_the_requester_adopts(
    world: World, helper: str, requester: str, stranger: str
) -> None:
    """Approve no program that adopts orphans, and runs what it is told."""
    guard(world, helper, requester)
    assert asked(world, requester, "--adopt", stranger, helper) == denied(PENDING)
    assert won(asked(world, requester, "--adopt", stranger, "--orphan", helper))


def test_the_requester_becomes_another_program_meanwhile(
    world: World, helper: str, requester: str, stranger: str
) -> None:
    talker = started(world, requester, helper, stranger=stranger)
    talker.signal(signal.SIGUSR1)
    until(lambda: os.readlink(f"/proc/{talker.pid}/exe") == stranger, "it is the stranger")
    assert won(talker.ask(ASK))
    guard(world, helper, requester)
    talker = started(world, requester, helper, stranger=stranger)
    assert won(talker.ask(ASK))
    talker.signal(signal.SIGUSR1)
    until(lambda: os.readlink(f"/proc/{talker.pid}/exe") == stranger, "it is the stranger")
    assert talker.ask(ASK) == denied("caller_changed")
    assert talker.eof()


def test_the_requester_ends_meanwhile(world: World, helper: str, requester: str) -> None:
    guard(world, helper, requester)
    talker = started(world, requester, helper)
    assert won(talker.ask(ASK))
    talker.signal(signal.SIGKILL)
    talker.wait()
    assert talker.ask(ASK) == denied("caller_changed")


def test_expected_open_a_stranger_that_becomes_the_requester_first(
    world: World, helper: str, requester: str, stranger: str
) -> None:
    """The kernel keeps no time of an exec: nothing tells the program that started the helper from what it is now."""
    guard(world, helper, requester)
    assert won(asked(world, stranger, "--become", requester, helper))


def test_a_script_as_requester_is_known_by_its_content(world: World, helper: str) -> None:
    text = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))\n"
    script = world.write("bin/agent.py", f"#!{world.installation.interpreter}\n{text}", 0o700)
    guard(world, helper, script)
    python = world.installation.interpreter
    assert won(asked(world, python, script, helper))
    assert asked(world, python, "-c", text, helper) == denied("identity_not_verified")  # it names no script
    world.write("bin/agent.py", f"#!{python}\n# another\n{text}", 0o700)
    assert asked(world, python, script, helper) == denied(PENDING)
    [waiting] = world.cli_json("list-pending")
    assert (waiting["path"], waiting["interpreter"]["path"]) == (script, python)
    world.cli_json("approve", waiting["id"])
    assert won(asked(world, python, script, helper))


def test_an_open_connection_obeys_the_policy_of_the_moment(world: World, helper: str, requester: str) -> None:
    talker = started(world, requester, helper)
    assert won(talker.ask(ASK))
    guard(world, helper, requester)  # nobody looked who stands behind that connection
    assert talker.ask(ASK) == denied("identity_not_verified")
    talker = started(world, requester, helper)
    assert won(talker.ask(ASK))
    guard(world, helper)
    assert talker.ask(ASK) == denied(PENDING)


def test_nothing_of_the_parents_is_kept(
    world: World, keeper: Daemon, helper: str, requester: str, stranger: str
) -> None:
    """Each link of a chain is a descriptor of the daemon's, refused or not."""
    guard(world, helper, requester)

    def held() -> int:
        return len(os.listdir(f"/proc/{keeper.pid}/fd"))

    def talk(times: int) -> None:
        for starter in (requester, stranger) * times:
            talker = started(world, starter, "/bin/sh", "-c", '"$@"; exit $?', "sh", helper)
            talker.ask(ASK)
            talker.end_input()
            talker.wait()

    talk(1)
    before = held()
    talk(4)
    until(lambda: held() <= before, "the descriptors are closed")


def test_shells_and_interpreters_stand_behind_nothing(world: World, helper: str) -> None:
    for program in ("/bin/sh", os.path.realpath(world.python)):
        done = world.cli("behalf", helper, "--allow", program)
        assert done.returncode == 2
        assert "Next: " in done.stderr
