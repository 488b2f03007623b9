"""Strangers that are many, large or silent: programs that are registered are served beside them.

No test measures time: it holds the flood open, and sees that the order of events is right. How long it takes is
measured by ``bench/flood.py``.
"""

from __future__ import annotations

import os

from daemon.requests import PENDING, denied, failed, read, results
from keychain_auth import files
from support.lines import until
from support.world import World

SPARSE = 900 * 1024 * 1024  # below the limit, so it is read: the better part of a second of one processor
HUGE = 2 * 1024**3  # above it
# Where a stranger is to be hashed still when the test looks, however busy the machine is: it would take a minute.
ENDLESS = 128 * 1024**3
READ_ALL = f"hash_limit_bytes = {2 * ENDLESS}\n[limits]\nverify_seconds = 300\n"


def large_programs(world: World, count: int, size: int) -> list[str]:
    """Programs with other names, other hashes, and a hole at their end."""
    paths = [world.build_client(f"large{number}", f"v{number}") for number in range(count)]
    for path in paths:
        os.truncate(path, size)
    return paths


def test_programs_are_verified_while_ten_large_strangers_wait(world: World) -> None:
    first = world.granted("first", "aws", variant="first")
    late = world.granted("late", "aws", variant="late")
    world.write_settings(READ_ALL)
    world.start()
    open_before = world.talker(first)
    assert open_before.ask(read("a")) == results()
    strangers = [world.talker(path) for path in large_programs(world, 10, ENDLESS)]
    assert open_before.ask(read("a")) == results()
    assert world.talker(late).ask(read("a")) == results()  # its hash is not known yet
    assert world.pending() == []  # the strangers are still being hashed, one after the other
    assert all(stranger.answers() == [] for stranger in strangers)


def test_80_connections_from_a_2_gib_executable(world: World) -> None:
    program = world.granted("talker", "aws")
    world.start()
    [huge] = large_programs(world, 1, HUGE)
    flood = world.talker(huge)
    flood.order("many 79")
    assert world.talker(program).ask(read("a")) == results()
    assert flood.ask(read("a")) == denied("identity_not_verified")  # without a byte of it having been read
    assert world.pending() == []


def test_a_stranger_has_few_places_to_wait_in(world: World) -> None:
    program = world.granted("talker", "aws")
    world.write_settings(f"{READ_ALL}verifying = 3\n")
    world.start()
    *waiting, fourth = [world.talker(path) for path in large_programs(world, 4, ENDLESS)]
    assert fourth.ask(read("a")) == failed("rate_limited")
    assert world.talker(program).ask(read("a")) == results()
    assert all(stranger.answers() == [] for stranger in waiting)


def test_what_takes_too_long_is_refused_in_time(world: World) -> None:
    world.write_settings("[limits]\nverify_seconds = 0.2\n")
    world.start()
    [large] = large_programs(world, 1, SPARSE)
    assert world.talker(large).ask(read("a")) == denied("identity_not_verified")
    assert [line["detail"] for line in world.audit() if line["action"] == "connect"] == [
        "it could not be verified within 0.2 seconds"
    ]


def test_repeated_refusals_are_one_line_and_a_count_and_the_log_verifies(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    stranger = world.build_client("stranger", "other")
    for _ in range(3):
        one = world.talker(stranger, "--late")
        for _ in range(10):
            assert one.reconnect().ask(read("a")) == denied(PENDING)
    friend = world.talker(program)
    for _ in range(20):
        assert friend.ask(read("a", service="gcp")) == denied("service_not_allowed")
    for target in ("b", "c"):
        assert friend.ask(read(target, service="gcp")) == denied("service_not_allowed")
    asked = [(line["reason"], line["targets"]) for line in world.audit() if line["result"] == "DENIED"]
    assert asked == [(PENDING, []), *(("service_not_allowed", [target]) for target in "abc")]
    assert daemon.stop() == 0
    counts = {line["reason"]: line["count"] for line in world.audit() if "count" in line}
    assert counts == {PENDING: 29, "service_not_allowed": 19}
    assert world.cli("audit", "verify").returncode == 0
    assert "29 times" in world.cli("audit", "tail").stdout


def test_refused_callers_of_the_admin_socket_are_on_record(world: World) -> None:
    daemon = world.start()
    program = world.build_client()
    for _ in range(3):
        talker = world.talker(program, "--inheritable", socket=daemon.admin_socket)
        talker.send_raw(b'{"command":"status"}\n')
        talker.readline()
    lines = [line for line in world.audit() if line["action"] == "admin_connect"]
    assert [(line["result"], line["reason"], line["pid"] > 0) for line in lines] == [
        ("DENIED", "socket_not_cloexec", True)
    ]


def test_silent_connections_do_not_lock_the_command_line_out(world: World) -> None:
    world.write_settings("[limits]\nconnections = 8\nunfinished_line_seconds = 300\n")
    daemon = world.start()
    program = world.build_client()
    crowd = [world.talker(program, socket=daemon.admin_socket) for _ in range(4)]
    for one in crowd:
        one.order("many 4")
    assert world.cli_json("status", "--socket", daemon.socket)["pid"] == daemon.pid


def test_who_asks_nothing_on_the_admin_socket_is_not_waited_for(world: World) -> None:
    world.write_settings("[limits]\nunfinished_line_seconds = 0.2\n")
    daemon = world.start()
    silent = world.talker(socket=daemon.admin_socket)
    assert silent.eof()
    assert silent.answers() == []


def test_strangers_that_wait_to_be_queued_give_way(world: World) -> None:
    """The queue is another command's to lock, and whoever waits for it must not keep the places of others."""
    program = world.granted("talker", "aws")
    world.write_settings("[limits]\nconnections = 8\n")
    world.start()
    with files.locked(os.path.join(world.config_dir, "pending.json")):
        crowd = [world.talker(world.build_client(f"stranger{number}", f"v{number}")) for number in range(4)]
        for one in crowd:
            one.order("many 4")
        assert world.talker(program).ask(read("a")) == results()


def test_a_crowd_that_ends_gives_its_places_back(world: World) -> None:
    world.write_settings(f"{READ_ALL}verifying = 2\n")
    world.start()
    crowd = [world.talker(path) for path in large_programs(world, 2, ENDLESS)]
    small = world.talker(world.build_client("small", "small"), "--late")
    assert small.reconnect().ask(read("a")) == failed("rate_limited")
    for one in crowd:
        one.close()
    until(lambda: small.reconnect().ask(read("a")) == denied(PENDING), "there is room again")
