"""Attacks on who is at the other end: the connection, its descriptors, and the pid behind it.

Each wins against a naive broker, then loses against the daemon; one wins against both, and its name says so.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from attacks.lab import (
    ASK,
    ASK_TEXT,
    MAY_NOT_TRACE,
    Broker,
    answer_of,
    attack,
    build,
    build_asker,
    may_trace,
    need_user_namespaces,
    start,
    wait_until_it_is,
    won,
)
from daemon.requests import denied, results
from support.daemon import Daemon
from support.process import Process
from support.world import World

TRIES = 200
NOT_CLOEXEC = denied("socket_not_cloexec")


def race(world: World, socket: str, program: str, tries: int, writer: str, *options: str) -> tuple[int, Process]:
    """How often the race was won, and what it printed."""
    words = [build(world, "race"), socket, ASK_TEXT, program, str(tries), writer, *options]
    attacker = world.spawn(words)
    at = attacker.out.find(lambda line: line.startswith(b"won "), timeout=60)
    return int(attacker.out[at].split()[1]), attacker


@contextlib.contextmanager
def stopped_again_and_again(daemon: Daemon) -> Iterator[None]:
    """What a busy machine does to a daemon, more often: now and then it does not run for some milliseconds."""
    done = threading.Event()

    def disturb() -> None:
        while not done.wait(0.004):
            daemon.signal(signal.SIGSTOP)
            done.wait(0.008)
            daemon.signal(signal.SIGCONT)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("writer", ["self", "child"])
def test_connect_write_exec_as_a_race(world: World, naive: Broker, writer: str) -> None:
    """The request is written by the one that connected, before it becomes the trusted program, or by a child after."""
    program = build_asker(world)
    naive(program, busy=True)
    assert race(world, world.path("naive.sock"), program, TRIES // 4, writer)[0] > 0
    daemon = start(world)
    with stopped_again_and_again(daemon):
        wins, attacker = race(world, world.socket, program, TRIES, writer)
    assert wins == 0
    assert answer_of(attacker)["status"] == "denied"
    daemon.wait_log("descriptor is inheritable")


def fly(world: World, socket: str, program: str, *options: str) -> Process:
    """Leave the connection in a message under way; returns when the trusted program runs in the attacker's place."""
    attacker = world.spawn([build(world, "flight"), socket, ASK_TEXT, program, *options])
    attacker.out.find(lambda line: line == b"parked")
    wait_until_it_is(attacker.pid, program)
    return attacker


def land(attacker: Process) -> dict[str, Any]:
    """Take the connection out of its message; what was answered on it."""
    attacker.feed(b"\n")
    return answer_of(attacker)


def test_a_descriptor_parked_in_flight(world: World, naive: Broker) -> None:
    program = build_asker(world)
    broker = naive(program)
    broker.hold()
    attacker = fly(world, world.path("naive.sock"), program)
    broker.release()
    assert won(land(attacker))
    daemon = start(world)
    daemon.signal(signal.SIGSTOP)
    attacker = fly(world, world.socket, program)
    daemon.signal(signal.SIGCONT)
    daemon.wait_log("another process holds the peer's end")
    assert land(attacker) == NOT_CLOEXEC


def test_forged_credentials_in_a_message(world: World, naive: Broker) -> None:
    """Root of one's own namespaces may name any process of them as the sender."""
    need_user_namespaces(world)
    program, evil = build_asker(world), build(world, "forge")
    naive(program, by_message=True)
    assert won(attack(world, evil, world.path("naive.sock"), ASK_TEXT, program))
    daemon = start(world)
    assert attack(world, evil, world.socket, ASK_TEXT, program) == denied("identity_not_verified")
    daemon.wait_log("another user and pid namespace")


def test_a_connection_stolen_from_the_trusted_program(world: World, naive: Broker, trusted: str) -> None:
    naive(trusted)
    evil = build(world, "steal")
    talker = world.talker(trusted, socket=world.path("naive.sock"))
    assert won(talker.ask(ASK))
    talker.order("stop-reading")
    thief = world.spawn([evil, str(talker.pid), "send", ASK_TEXT])
    _skip_unless_stolen(thief)
    assert won(answer_of(thief))
    start(world, trusted)
    talker = world.talker(trusted)
    assert won(talker.ask(ASK))
    talker.order("stop-reading")
    assert answer_of(world.spawn([evil, str(talker.pid), "send", ASK_TEXT])) == denied("caller_changed")


def test_expected_open_answers_read_from_a_stolen_connection(world: World, trusted: str) -> None:
    """Who may look into the program's memory may as well read its answers: nothing of it is seen by the daemon."""
    start(world, trusted)
    talker = world.talker(trusted)
    assert won(talker.ask(ASK))
    talker.order("stop-reading")
    thief = world.spawn([build(world, "steal"), str(talker.pid), "read", ""])
    _skip_unless_stolen(thief)
    talker.send(ASK)
    assert won(answer_of(thief))


def _skip_unless_stolen(thief: Process) -> None:
    if not may_trace():
        pytest.skip(MAY_NOT_TRACE)
    thief.out.find(lambda line: line == b"stolen")


LAST_PID = "/proc/sys/kernel/ns_last_pid"


def reuse(world: World, socket: str, program: str) -> Process:
    """Connect under a pid that the trusted program has afterwards. Only root can set which pid comes next."""
    attacker = world.spawn([build(world, "reuse"), socket, ASK_TEXT, program])
    at = attacker.out.find(lambda line: line.startswith(b"pid "))
    pid = int(attacker.out[at].split()[1])
    attacker.wait()
    for _ in range(200):
        lines = len(attacker.out)
        with open(LAST_PID, "w", encoding="ascii") as file:
            file.write(str(pid - 1))
        attacker.feed(b"\n")
        at = attacker.out.find(lambda line: line in (b"missed", b"reused"), lines)
        if attacker.out[at] == b"reused":
            wait_until_it_is(pid, program)
            return attacker
    pytest.skip("other processes took the pid each time")


def test_the_pid_of_an_ended_process_given_to_the_trusted_program(world: World, naive: Broker) -> None:
    try:
        with open(LAST_PID, "r+", encoding="ascii") as file:
            file.write(file.read())
    except OSError as error:
        pytest.skip(f"{LAST_PID}: {error.strerror}; to wait for a pid to come round again takes too long")
    program = build_asker(world)
    broker = naive(program)
    broker.hold()
    attacker = reuse(world, world.path("naive.sock"), program)
    broker.release()
    assert won(answer_of(attacker))
    daemon = start(world)
    daemon.signal(signal.SIGSTOP)
    attacker = reuse(world, world.socket, program)
    daemon.signal(signal.SIGCONT)
    assert answer_of(attacker) == denied("identity_not_verified")
    daemon.wait_log("the process that connected")


def test_an_honest_program_is_served_after_all_that(world: World, trusted: str) -> None:
    """The rules refuse attacks, not programs that keep several connections, or open one in a child."""
    start(world, trusted)
    talker = world.talker(trusted)
    talker.order("many 20")
    assert won(talker.ask(ASK))
    assert talker.ask({**ASK, "targets": ["other"]}) == results()
