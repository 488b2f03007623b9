"""A change of config.json counts at once, also for who is connected; a broken one changes nothing, loudly."""

from __future__ import annotations

import os

import pytest

from daemon.requests import PENDING, denied, read, results
from support.world import World


def test_a_revoked_service_is_refused_on_an_open_connection(world: World) -> None:
    program = world.granted("talker", "aws", "gcp")
    world.start()
    talker = world.talker(program)
    assert talker.ask(read("a")) == results()
    for _ in range(20):  # each edit right before the next request: no moment in which the old policy still counts
        world.allow(program, ["gcp"], [])
        assert talker.ask(read("a")) == denied("service_not_allowed")
        world.allow(program, ["aws"], [])
        assert talker.ask(read("a")) == results()


def test_an_edit_in_place_of_the_same_length_is_seen(world: World) -> None:
    """Two edits within one tick of the file's clock can look the same; the daemon looks again."""
    program = world.granted("talker", "aws")
    world.start()
    talker = world.talker(program)
    with open(world.policy_path) as file:
        allowed = file.read()
    forbidden = allowed.replace('"aws"', '"awx"')
    for number in range(50):
        with open(world.policy_path, "r+") as file:
            file.write(forbidden if number % 2 == 0 else allowed)
        answer = talker.ask(read("a"))
        assert answer == (denied("service_not_allowed") if number % 2 == 0 else results())


def test_an_unregistered_program_is_cut_off_at_its_next_request(world: World) -> None:
    program = world.granted("talker", "aws")
    world.start()
    talker = world.talker(program)
    assert talker.ask(read("a")) == results()
    world.write_policy({"registered_binaries": []})
    assert talker.ask(read("a")) == denied(PENDING)
    assert talker.eof()
    assert [entry["path"] for entry in world.pending()] == [program]


def test_a_hash_that_no_longer_fits_cuts_off(world: World) -> None:
    program = world.granted("talker", "aws")
    world.start()
    talker = world.talker(program)
    policy = world.read_policy()
    policy["registered_binaries"][0]["hash"] = "0" * 64
    world.write_policy(policy)
    assert talker.ask(read("a")) == denied(PENDING)


@pytest.mark.parametrize("content", ["", "{", '{"registered_binaries": [{"path": 7}]}', "\x00\x01"])
def test_a_malformed_edit_keeps_the_last_good_policy_loudly(world: World, content: str) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    world.write(".config/keychain-auth/config.json", content)
    assert talker.ask(read("a")) == results()
    daemon.wait_log("last good policy stays")
    assert world.talker(program).ask(read("a")) == results()
    status = world.cli_json("status", "-s", world.socket)
    assert status["policy"]["state"] == "last good"
    assert status["policy"]["problem"]
    assert "policy_malformed" in [line["action"] for line in world.audit()]
    world.write_policy({"registered_binaries": []})
    assert talker.ask(read("a")) == denied(PENDING)


def test_an_edit_that_others_could_have_made_is_not_obeyed(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    world.write(".config/keychain-auth/config.json", '{"registered_binaries": []}', mode=0o666)
    assert talker.ask(read("a")) == results()
    daemon.wait_log("can be written by other users")
    os.chmod(world.policy_path, 0o600)
    assert talker.ask(read("a")) == denied(PENDING)


def test_a_removed_file_registers_nobody(world: World) -> None:
    program = world.granted("talker", "aws")
    world.start()
    talker = world.talker(program)
    os.unlink(world.policy_path)
    assert talker.ask(read("a")) == denied(PENDING)
