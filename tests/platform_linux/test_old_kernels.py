"""What a daemon does on kernels that lack some calls: a preloaded library lets them fail as they would there."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from daemon.requests import denied, read, results
from support.daemon import Daemon
from support.world import World

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "c", "oldkernel.c")


def start(world: World, **fails: int) -> Daemon:
    """A daemon for whose calls the kernel has these errors."""
    library = world.build_library("oldkernel.so", SOURCE)
    return world.start(env={"LD_PRELOAD": library, **{name: str(number) for name, number in fails.items()}})


def test_without_the_newer_calls_the_fallbacks_hold(world: World) -> None:
    program = world.granted("trusted", "aws")
    evil = world.build_client("evil", "evil")
    daemon = start(world, OLD_PEERPIDFD=errno.ENOPROTOOPT, OLD_OPENAT2=errno.ENOSYS)
    assert world.talker(program).ask(read("x")) == results()
    attacker = world.talker(evil, "--inheritable", "--late")
    daemon.signal(signal.SIGSTOP)
    attacker.reconnect().send(read("x"))
    attacker.feed(f"!exec {program}\n".encode())
    attacker.connected()
    daemon.signal(signal.SIGCONT)
    assert attacker.answer() == denied("socket_not_cloexec")
    rules = world.cli_json("status")["identity"]
    assert rules["peer"] == "pidfd_open and start time: this kernel has no SO_PEERPIDFD"
    assert rules["registered path"] == "plain open: this kernel has no RESOLVE_CACHED"


def test_without_the_newer_calls_a_process_that_has_ended_is_refused(world: World) -> None:
    program = world.granted("trusted", "aws")
    daemon = start(world, OLD_PEERPIDFD=errno.ENOPROTOOPT)
    daemon.signal(signal.SIGSTOP)
    talker = world.talker(program)
    talker.send(read("x"))
    talker.order("half-close")  # sent by now
    talker.kill()
    daemon.signal(signal.SIGCONT)
    daemon.wait_log("the process that connected is gone")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ESRCH])
def test_an_error_that_means_gone_is_never_taken_for_an_old_kernel(world: World, number: int) -> None:
    program = world.granted("trusted", "aws")
    daemon = start(world, OLD_PEERPIDFD=number)
    assert world.talker(program).ask(read("x")) == denied("identity_not_verified")
    daemon.wait_log("the process that connected is gone")


def test_status_says_which_rules_are_in_force(world: World) -> None:
    world.start()
    rules = world.cli_json("status")["identity"]
    assert list(rules) == [
        "peer", "namespaces", "filesystems", "executable", "registered path", "descriptor", "seccomp", "mappings",
        "tracer", "launch", "message", "passed descriptors", "strict",
    ]  # fmt: skip
    shown = world.cli("status", "--checks").stdout
    for rule, how in rules.items():
        assert how in next(line for line in shown.splitlines() if line.startswith(f"checks {rule}"))
