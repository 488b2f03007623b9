"""The version before an upgrade: served where it ran already, for a while, and never by a trick."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from attacks.lab import ASK, Broker, start, wait_until_it_is, won
from daemon.requests import PENDING, denied
from support.daemon import Daemon
from support.lines import until
from support.talker import Talker
from support.world import World

REFUSED = denied("identity_not_verified")


@pytest.fixture
def program(world: World) -> str:
    """A program with ten minutes of grace."""
    return world.granted("tool", "aws", variant="one", grace_seconds=600)


def upgraded(world: World, program: str) -> None:
    """Another version stands at the path, as a package manager puts it there, and the entry has its hash."""
    world.build_client(os.path.basename(program), "two")
    assert world.cli("upgrade", program).returncode == 0


def end_grace(world: World, program: str) -> None:
    """As if the moment had come: the policy says that it was a second ago."""
    policy = world.read_policy()
    [entry] = [entry for entry in policy["registered_binaries"] if entry["path"] == program]
    for version in entry["previous"]:
        version["until"] = datetime.fromtimestamp(datetime.now(UTC).timestamp() - 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    world.write_policy(policy)


def test_an_open_connection_of_the_version_before_stays_until_its_moment(world: World, program: str) -> None:
    start(world, program)
    talker, idle = world.talker(program), world.talker(program)
    assert won(talker.ask(ASK))
    assert won(idle.ask(ASK))
    upgraded(world, program)
    assert won(talker.ask(ASK))
    assert won(talker.reconnect().ask(ASK))  # a new connection of the process that runs the removed file
    [connect] = [line for line in world.audit() if "the version before" in (line.get("detail") or "")]
    assert (connect["action"], connect["result"]) == ("connect", "GRANTED")
    assert won(world.talker(program).ask(ASK))  # the new version
    end_grace(world, program)
    assert talker.ask(ASK)["status"] == "denied"
    assert idle.ask(ASK)["status"] == "denied"
    assert talker.reconnect().ask(ASK) == REFUSED


def test_the_moment_ends_an_open_connection_without_any_change_of_the_policy(world: World) -> None:
    program = world.granted("tool", "aws", variant="one", grace_seconds=2)
    start(world, program)
    talker = world.talker(program)
    assert won(talker.ask(ASK))
    upgraded(world, program)
    until(lambda: talker.ask(ASK)["status"] == "denied", "the version before is refused")


def test_without_grace_the_version_before_is_refused_at_once(world: World) -> None:
    program = world.granted("tool", "aws", variant="one")
    start(world, program)
    talker = world.talker(program)
    assert won(talker.ask(ASK))
    upgraded(world, program)
    assert talker.ask(ASK)["status"] == "denied"
    assert talker.reconnect().ask(ASK) == REFUSED


def test_an_old_version_put_back_at_its_path_is_refused(world: World, program: str, naive: Broker) -> None:
    """The vulnerable version, started anew: a naive broker that goes on to accept the old hash serves it."""
    kept = world.path("bin/kept")
    os.link(program, kept)
    start(world, program)
    assert won(world.talker(program).ask(ASK))
    naive(program)
    upgraded(world, program)
    os.rename(program, world.path("bin/two"))
    os.link(kept, program)
    assert won(world.talker(program, socket=world.path("naive.sock")).ask(ASK))
    old = world.talker(program, "--late")
    assert old.reconnect().ask(ASK) == denied(PENDING)
    os.rename(world.path("bin/two"), program)  # and the new one over it: the old file is gone from the path
    os.unlink(kept)
    _expect_bounded(world, program, old)


def _expect_bounded(world: World, program: str, old: Talker) -> None:
    """It is the very file that was verified before: until the moment it is taken for a process of then, not after."""
    assert won(old.reconnect().ask(ASK))
    end_grace(world, program)
    assert old.reconnect().ask(ASK) == REFUSED


def test_a_copy_of_the_old_version_removed_after_its_start_is_refused(world: World, program: str) -> None:
    """Same bytes, same name with " (deleted)", but not the file that was verified."""
    daemon = start(world, program)
    running = world.talker(program)  # keeps the first file's inode from being given to the copy
    assert won(running.ask(ASK))
    upgraded(world, program)
    new = world.path("bin/new")
    os.rename(program, new)
    world.build_client(os.path.basename(program), "one")
    copy = world.talker(program, "--late")
    wait_until_it_is(copy.pid, program)
    os.rename(new, program)
    assert copy.reconnect().ask(ASK) == REFUSED
    daemon.wait_log("is not the one that runs")


def test_expected_open_until_the_moment_the_old_version_through_proc(world: World, program: str) -> None:
    """Whoever has a process of the old version can start it once more, by /proc/PID/exe. The moment ends that too."""
    start(world, program)
    running = world.talker(program)
    assert won(running.ask(ASK))
    upgraded(world, program)
    again = world.talker(f"/proc/{running.pid}/exe")
    assert won(again.ask(ASK))
    end_grace(world, program)
    assert again.reconnect().ask(ASK) == REFUSED


def test_a_daemon_started_anew_knows_no_version_before(world: World, program: str) -> None:
    daemon: Daemon = start(world, program)
    talker = world.talker(program)
    assert won(talker.ask(ASK))
    upgraded(world, program)
    daemon.stop()
    world.start()
    assert talker.reconnect().ask(ASK) == REFUSED
