"""What strict mode stops beside the rest, and what stays open in it.

Each attack is first shown to win against an entry without ``strict``: that is the naive side here.
"""

from __future__ import annotations

import signal

import pytest

from attacks.lab import (
    ASK_TEXT,
    MAY_NOT_TRACE,
    Broker,
    answer_of,
    build,
    build_asker,
    build_library,
    may_trace,
    start,
    won,
    x86_64_only,
)
from attacks.test_code import inject
from attacks.test_connections import fly, land, race, stopped_again_and_again
from daemon.requests import denied
from support.lines import until
from support.process import Process
from support.world import World

REFUSED = denied("identity_not_verified")
tracing = pytest.mark.skipif(not may_trace(), reason=MAY_NOT_TRACE)


def puppet(world: World, program: str, how: str, *options: str) -> Process:
    """Put code into a waiting trusted program from outside, and let it ask."""
    victim = world.spawn([program, world.socket, ASK_TEXT, *options])
    at = victim.out.find(lambda line: line.startswith(b"ready"))
    words = victim.out[at].split()
    thread = words[1].decode() if len(words) > 1 else str(victim.pid)
    world.spawn([build(world, "puppeteer"), thread, world.socket, ASK_TEXT, how])
    return victim


@x86_64_only
def test_code_of_the_program_changed_by_a_library(world: World) -> None:
    """The library writes over the program's own code and unmaps itself: only the program seems to be there."""
    program, library = build_asker(world), build_library(world, "inject")
    daemon = start(world)
    assert won(answer_of(inject(world, program, world.socket, "text", LD_PRELOAD=library)))
    build_asker(world, strict=True)
    assert answer_of(inject(world, program, world.socket, "text", LD_PRELOAD=library)) == REFUSED
    daemon.wait_log(f"strict: its code of {program} was changed in memory")


@x86_64_only
@tracing
def test_code_written_through_proc_mem(world: World) -> None:
    """Without Yama it wins against the rules of every day (expected open there); strict mode sees the pages."""
    program = build_asker(world)
    daemon = start(world)
    assert won(answer_of(puppet(world, program, "leave")))
    build_asker(world, strict=True)
    assert answer_of(puppet(world, program, "leave")) == REFUSED
    daemon.wait_log("changed in memory")


@x86_64_only
@tracing
def test_a_traced_program(world: World, naive: Broker) -> None:
    program = build_asker(world)
    naive(program)
    victim = world.spawn([program, world.path("naive.sock"), ASK_TEXT])
    victim.out.find(lambda line: line == b"ready")
    world.spawn([build(world, "puppeteer"), str(victim.pid), world.path("naive.sock"), ASK_TEXT, "stay"])
    assert won(answer_of(victim))
    daemon = start(world)
    assert answer_of(puppet(world, program, "stay")) == REFUSED
    daemon.wait_log("traces it")


@x86_64_only
@tracing
def test_a_traced_second_thread(world: World) -> None:
    program = build_asker(world)
    daemon = start(world)
    assert won(answer_of(puppet(world, program, "stay", "--thread")))
    build_asker(world, strict=True)
    assert answer_of(puppet(world, program, "stay", "--thread")) == REFUSED
    daemon.wait_log("strict: one of its threads is traced")


def test_a_program_that_marks_what_it_inherits_close_on_exec(world: World) -> None:
    """As Node does. Then rule 4 says nothing, but somebody else must hold the connection to read the answer."""
    program = build_asker(world)
    daemon = start(world)
    with stopped_again_and_again(daemon):
        assert race(world, world.socket, program, 50, "self", "--close-range")[0] > 0
    build_asker(world, strict=True)
    with stopped_again_and_again(daemon):
        assert race(world, world.socket, program, 50, "self", "--close-range")[0] == 0
    daemon.wait_log("held by other processes too")


def test_expected_open_in_strict_mode_a_copy_in_flight(world: World) -> None:
    """A descriptor in a message that nobody has taken yet is held by no process. It takes a program as above."""
    program = build_asker(world, strict=True)
    daemon = start(world)
    daemon.signal(signal.SIGSTOP)
    attacker = fly(world, world.socket, program, "--close-range")
    attacker.out.find(lambda line: line == b"ready")
    daemon.signal(signal.SIGCONT)
    until(lambda: any(line["action"] == "read" for line in world.audit()), "the request was answered")
    assert won(land(attacker))


def test_expected_open_in_strict_mode_a_holder_that_nobody_may_look_at(world: World) -> None:
    """A process that made itself non-dumpable shows its descriptors to root alone."""
    program = build_asker(world, strict=True)
    daemon = start(world)
    with stopped_again_and_again(daemon):
        assert race(world, world.socket, program, 50, "hidden", "--close-range")[0] > 0


def test_a_service_for_system_programs_refuses_one_of_the_user(world: World, trusted: str) -> None:
    """A file that its user can write can be changed behind a remembered hash (docs/threat-model.md)."""
    daemon = start(world, trusted)
    ask = {"type": "REQUEST", "action": "read", "service": "aws", "targets": ["secret"]}
    assert won(world.talker(trusted).ask(ask))
    world.allow(trusted, ["aws"], minimum_grade="system")
    assert world.talker(trusted).ask(ask) == REFUSED
    daemon.wait_log("minimum_grade: wanted system, found user")
