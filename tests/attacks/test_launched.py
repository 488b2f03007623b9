"""Launched scripts: whatever a hostile front does, what gets the secret is the registered script and nothing else.

Each trick (``front.py``) first wins against a launcher that believes its front. Then it loses: the daemon refuses
before "go", or kills the process before its first instruction.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from attacks.lab import build, build_library
from attacks.launch_lab import ASKING, declared, launch, output, registered
from attacks.naive import SECRET
from attacks.naive_launcher import NaiveLauncher
from daemon.requests import PENDING
from support.daemon import Daemon
from support.process import Process
from support.world import World

HERE = os.path.dirname(os.path.abspath(__file__))
FRONT = os.path.join(HERE, "front.py")


@pytest.fixture
def script(world: World, keeper: Daemon) -> str:
    """A script that asks for the secret and prints the answer; registered, at the grade that is the default."""
    return registered(world, world.write("app.py", ASKING))


@pytest.fixture
def gullible(world: World) -> Iterator[str]:
    """The socket of a launcher that believes its front."""
    path = world.path("naive.sock")
    launcher = NaiveLauncher(path)
    yield path
    launcher.close()


def front(world: World, trick: str, script: str, *naive: str) -> Process:
    """A front that does something else."""
    with open(FRONT, encoding="utf-8") as file:
        program = world.write("front.py", file.read())  # the checkout may be closed to the user under test
    env = {
        "KEYCHAIN_AUTH_SOCKET": world.path("naive.sock") if naive else world.socket,
        "EVIL_PROGRAM": build(world, "preload"),
        "EVIL_LIBRARY": build_library(world, "preload"),
    }
    process = world.spawn([world.python, program, trick, script, *naive], env=env)
    process.end_input()
    return process


def test_a_launched_script_is_served_and_the_same_script_declared_is_not(world: World, script: str) -> None:
    process = launch(world, script)
    assert SECRET in output(process)
    assert process.returncode == 0
    assert "identity_not_verified" in output(declared(world, script))
    actions = [(line["action"], line["result"]) for line in world.audit() if line.get("script_path") == script]
    assert actions == [("launch", "GRANTED"), ("connect", "GRANTED"), ("read", "GRANTED"), ("connect", "DENIED")]


# What is done after "go", and what the daemon says when it kills the process for it.
AFTER = {
    "other_program": "not /usr",
    "other_arguments": "its command line is not the one that was agreed on",
    "environment": "variables that change what an interpreter runs: LD_PRELOAD",
    "other_script": "descriptor 3 is not the sealed script",
    "twice": "its command line is not the one that was agreed on",
}


@pytest.mark.parametrize("trick", AFTER)
def test_a_front_that_becomes_something_else(
    world: World, keeper: Daemon, script: str, gullible: str, trick: str
) -> None:
    assert SECRET in output(front(world, trick, script, "naive"))
    process = front(world, trick, script)
    assert output(process) == ""
    assert process.returncode == -signal.SIGKILL
    assert AFTER[trick] in keeper.wait_log("launch refused")
    [record] = [line for line in world.audit() if line["action"] == "launch"]
    assert (record["result"], record["reason"]) == ("DENIED", "identity_not_verified")


def test_a_thread_that_is_not_traced_executes(world: World, keeper: Daemon, script: str, gullible: str) -> None:
    """The kernel lets a thread that executes take the place of the one that was seized."""
    assert SECRET in output(front(world, "late_thread", script, "naive"))
    process = front(world, "late_thread", script)
    assert SECRET not in output(process)
    assert process.returncode == -signal.SIGKILL
    assert "it never started the interpreter" in keeper.wait_log("launch refused")


@pytest.mark.parametrize("trick", ["connection", "late_connection"])
def test_a_connection_from_before(world: World, keeper: Daemon, script: str, gullible: str, trick: str) -> None:
    """Another program connects, asks, leaves a child to read, and becomes the script. The kernel names the pid."""
    assert SECRET in output(front(world, trick, script, "naive"))
    process = front(world, trick, script)
    assert SECRET not in output(process)
    assert process.returncode == -signal.SIGKILL
    wanted = "is a connection to the daemon" if trick == "connection" else "it inherits the descriptors"
    assert wanted in keeper.wait_log("launch refused")


@pytest.mark.parametrize(
    ("trick", "why"), [("second_thread", "it has 2 threads"), ("other_content", "is not what was registered")]
)
def test_what_is_seen_before_go_is_told_to_the_front(
    world: World, keeper: Daemon, script: str, gullible: str, trick: str, why: str
) -> None:
    assert SECRET in output(front(world, trick, script, "naive"))
    process = front(world, trick, script)
    said = output(process)
    assert said.startswith("refused")
    assert why in said
    assert process.returncode == 3
    keeper.wait_log("launch refused")


def test_without_address_randomisation(world: World, keeper: Daemon, script: str) -> None:
    """It would survive each exec, and a later one could look like this one."""
    assert SECRET in output(front(world, "nothing", script))
    assert front(world, "no_randomisation", script).wait() == -signal.SIGKILL
    keeper.wait_log("personality 0x40000")


AGAIN = """
import os, sys
sys.argv[1:] and os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", sys.argv[1]])
"""


def test_another_exec_of_the_same_interpreter_is_no_longer_the_script(world: World, keeper: Daemon) -> None:
    path = registered(world, world.write("again.py", AGAIN + ASKING))
    assert SECRET in output(launch(world, path))
    assert PENDING in output(launch(world, path, ASKING))


def test_a_child_is_not_the_script(world: World, keeper: Daemon) -> None:
    path = registered(world, world.write("parent.py", "import os\nif os.fork(): os.wait(); os._exit(0)\n" + ASKING))
    assert PENDING in output(launch(world, path))
