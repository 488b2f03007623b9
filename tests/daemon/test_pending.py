"""The pending queue as the daemon keeps it: there at once, bounded, and cheap under a flood."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

from daemon.requests import PENDING, denied, read
from support.lines import until
from support.world import World

OLD = {"path": "/bin/x", "hash": f"sha256:{'a' * 64}", "command_line": "x", "user": "u", "pid": 1}


def ask(world: World, program: str) -> None:
    talker = world.talker(program)
    assert talker.ask(read("a")) == denied(PENDING)
    talker.order("close")


def test_an_entry_is_in_the_file_before_its_refusal_is_sent(world: World) -> None:
    world.start()
    for number in range(5):
        ask(world, world.build_client(f"tool{number}", f"v{number}"))
        assert len(world.pending()) == number + 1


def test_the_same_program_is_one_entry(world: World) -> None:
    world.start()
    program = world.build_client()
    for _ in range(20):
        ask(world, program)
    assert len(world.pending()) == 1


def test_a_flood_costs_few_writes(world: World) -> None:
    """100 refusals of four strangers: the file is replaced now and then, not 100 times."""
    daemon = world.start()
    programs = [world.build_client(f"tool{number}", f"v{number}") for number in range(4)]
    for program in programs:
        ask(world, program)
    before = os.stat(os.path.join(world.config_dir, "pending.json")).st_ino
    written = int(daemon_io(daemon.pid)["write_bytes"])
    for _ in range(25):
        for program in programs:
            ask(world, program)
    assert os.stat(os.path.join(world.config_dir, "pending.json")).st_ino == before
    assert int(daemon_io(daemon.pid)["write_bytes"]) - written < 1024 * 1024
    assert len(world.pending()) == 4


def daemon_io(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/io") as file:
            return dict(line.strip().split(": ") for line in file)
    except PermissionError:  # only root may look into a process that forbids dumps
        return {"write_bytes": "0"}


def test_an_entry_that_a_person_took_away_comes_back_when_asked_for_again(world: World) -> None:
    world.start()
    program = world.build_client()
    ask(world, program)
    [entry] = world.pending()
    assert world.cli("deny", entry["hash"]).returncode == 0
    assert world.pending() == []
    ask(world, program)
    assert [again["path"] for again in world.pending()] == [program]


def test_what_expired_is_gone_and_the_rest_is_kept(world: World) -> None:
    now = datetime.now(UTC)
    fresh = {**OLD, "path": "/bin/y", "timestamp": (now - timedelta(hours=23)).strftime("%Y-%m-%dT%H:%M:%SZ")}
    expired = {**OLD, "timestamp": (now - timedelta(hours=25)).strftime("%Y-%m-%dT%H:%M:%SZ")}
    world.write(".config/keychain-auth/pending.json", json.dumps([expired, fresh]))
    world.start()
    program = world.build_client()
    ask(world, program)
    assert [entry["path"] for entry in world.pending()] == ["/bin/y", program]


def test_a_damaged_queue_is_kept_beside_and_begun_anew(world: World) -> None:
    world.write(".config/keychain-auth/pending.json", '[{"path"')
    world.start()
    program = world.build_client()
    ask(world, program)
    assert [entry["path"] for entry in world.pending()] == [program]
    with open(os.path.join(world.config_dir, "pending.json.damaged")) as kept:
        assert kept.read() == '[{"path"'


def test_command_lines_are_cut(world: World) -> None:
    world.start()
    program = world.build_client()
    talker = world.talk([program, world.socket, *["--late"] * 2000])
    talker.feed(b"!connect\n")
    talker.connected()
    assert talker.ask(read("a")) == denied(PENDING)
    [entry] = world.pending()
    assert len(entry["command_line"].encode()) == 4096


def test_a_path_that_is_no_text_does_not_empty_the_queue(world: World) -> None:
    """The name of a file is bytes; one that is not UTF-8 once made the whole queue look damaged."""
    world.start()
    ask(world, world.build_client("honest", "honest"))
    odd = os.fsencode(world.path("bin")) + b"/odd\xff"
    os.rename(os.fsencode(world.build_client("odd", "odd")), odd)
    ask(world, os.fsdecode(odd))
    assert [os.path.basename(entry["path"]) for entry in world.pending()] == ["honest", "odd\\udcff"]
    assert not os.path.exists(os.path.join(world.config_dir, "pending.json.damaged"))


def test_a_stopped_command_that_holds_the_lock_does_not_hold_the_end(world: World) -> None:
    daemon = world.start()
    path = os.path.join(world.config_dir, "pending.json.lock")
    holder = world.spawn([world.python, "-c", HOLDER, path])
    holder.out.find(lambda line: line == b"held")
    talker = world.talker()
    talker.send(read("a"))
    until(lambda: any(line["action"] == "connect" for line in world.audit()), "the stranger was looked at")
    assert daemon.stop() == 0


HOLDER = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
