"""What no client may do: crash the daemon, block another client, grow its memory, or write into its log."""

from __future__ import annotations

import json
import os
import random

import pytest

from daemon.requests import PENDING, SUCCESS, denied, failed, read, request, results, write
from support.lines import StreamEnded, until
from support.world import World

FAST = "[limits]\nunfinished_line_seconds = 0.5\nidle_seconds = 0.5\n"


def test_a_line_of_10_mib_is_refused_without_being_held(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    assert talker.ask(read("a")) == results()
    before = daemon.rss()
    talker.send_raw(b"x" * (10 * 1024 * 1024))
    assert talker.answer() == failed("malformed_request")
    talker.eof()
    assert daemon.rss() - before < 8 * 1024 * 1024
    assert world.talker(program).ask(read("a")) == results()


def test_a_line_of_exactly_the_limit_is_read(world: World) -> None:
    program = world.granted("talker", "aws")
    world.start()
    talker = world.talker(program)
    request = json.dumps(write({f"{number}": "x" * 200_000 for number in range(5)})).encode()
    padded = request[:-1] + b" " * (1024 * 1024 - len(request)) + b"}"
    assert len(padded) == 1024 * 1024
    talker.send_raw(padded + b"\n")
    assert talker.answer() == SUCCESS
    talker.send_raw(padded + b" \n")
    assert talker.answer() == failed("malformed_request")
    talker.eof()


def test_binary_noise(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    noise = random.Random(7)  # the same noise each time
    for _ in range(20):
        talker = world.talker(program)
        talker.send_raw(noise.randbytes(20_000) + b"\n")
        assert talker.answer()["reason"] == "malformed_request"
        talker.order("close")
    assert daemon.returncode is None
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in daemon.log.encode())
    with open(os.path.join(world.data_dir, "audit.log"), "rb") as log:
        assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in log.read())


def test_silence_and_half_lines_end_by_their_deadlines(world: World) -> None:
    program = world.granted("talker", "aws")
    world.write_settings(FAST)
    world.start()
    silent, half, busy = (world.talker(program) for _ in range(3))
    half.send_raw(b'{"type"')
    assert half.eof()
    assert silent.eof()
    assert busy.answers() == []
    assert half.answers() == []


def test_a_half_line_that_trickles_has_no_more_time(world: World) -> None:
    """Each byte is activity, but the line is one, and it has begun long ago."""
    program = world.granted("talker", "aws")
    world.write_settings("[limits]\nunfinished_line_seconds = 0.5\n")
    world.start()
    talker = world.talker(program)

    def ended() -> bool:
        talker.send_raw(b"x")
        try:
            talker.eof(timeout=0.1)  # orderly, or by a reset: bytes may be under way when it closes
        except AssertionError:
            return False
        return True

    until(ended, "the line is not let go on")
    assert talker.answers() == []


def test_a_reader_that_never_reads_holds_little_and_delays_nobody(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    other = world.talker(program)
    assert other.ask(write({"big": "x" * 250_000})) == SUCCESS
    before = daemon.rss()
    greedy = world.talker(program)
    greedy.order("stop-reading")
    greedy.send(*[read("big")] * 2000)  # 500 MB of answers, were they all made
    for _ in range(200):
        assert len(other.ask(read("big"))["results"]) == 1
    assert daemon.rss() - before < 16 * 1024 * 1024


def test_a_reader_that_pauses_gets_everything_in_order(world: World) -> None:
    program = world.granted("talker", "aws")
    world.start()
    talker = world.talker(program)
    values = {f"{number}": str(number) * 50_000 for number in range(10)}
    for target, value in values.items():
        assert talker.ask(write({target: value})) == SUCCESS
    talker.order("stop-reading")
    talker.send(*(read(target) for target in values for _ in range(10)))
    talker.order("read-on")
    for target, value in values.items():
        for _ in range(10):
            assert talker.answer() == results({"target": target, "value": value})


def test_connections_are_limited_for_each_process_and_in_all(world: World) -> None:
    program = world.granted("talker", "aws")
    world.write_settings("[limits]\nconnections = 20\nconnections_per_process = 12\n")
    world.start()
    first = world.talker(program)
    assert first.ask(read("a")) == results()
    first.order("many 11")
    other = world.talker(program)
    other.order("many 7")
    assert other.ask(read("a")) == results()
    third = world.talker(program)  # the 21st of all
    assert third.answer() == failed("rate_limited")
    third.eof()
    assert first.ask(read("a")) == results()


def test_a_process_has_no_more_than_its_share(world: World) -> None:
    program = world.granted("talker", "aws")
    world.write_settings("[limits]\nconnections_per_process = 4\n")
    world.start()
    talker = world.talker(program)
    talker.order("many 4")
    assert talker.ask(read("a")) == results()
    assert [line["reason"] for line in world.audit() if line["result"] == "DENIED"] == ["rate_limited"]
    assert world.talker(program).ask(read("a")) == results()


def test_a_thousand_connections_of_strangers_do_not_lock_out_a_client(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    stranger = world.build_client("stranger", "other")
    early = world.talker(program)
    crowd = [world.talker(stranger) for _ in range(16)]
    for one in crowd:
        one.order("many 63")
    assert early.ask(read("a")) == results()
    assert world.talker(program).ask(read("a")) == results()
    assert daemon.rss() < 80 * 1024 * 1024
    assert len(world.pending()) == 1


def test_a_refused_client_gets_its_line_however_much_it_has_sent(world: World) -> None:
    """Closing on unread input resets the connection, and the reason may be lost with it."""
    world.start()
    for size in (0, 100, 200_000, 900_000):
        talker = world.talker()
        talker.send_raw(json.dumps(write({"a": "x" * size})).encode() + b"\n" + b'{"more":1}\n' * 10)
        assert talker.answer() == denied(PENDING)
        assert talker.eof()


def test_a_stranger_that_says_nothing_is_queued_and_gets_one_answer(world: World) -> None:
    world.start()
    talker = world.talker()
    until(lambda: len(world.pending()) == 1, "the stranger is queued")
    assert talker.ask(read("a")) == denied(PENDING)
    talker.eof()
    assert len(talker.answers()) == 1  # whether it asked before it was told or not


def test_names_cannot_forge_lines_in_log_or_audit(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    evil = '\u2028\u202e"}\\n{"action":"read","result":"GRANTED"'
    assert talker.ask(read(evil, service="gcp")) == denied("service_not_allowed")
    assert [line["targets"] for line in world.audit() if line["service"] == "gcp"] == [[evil]]
    assert daemon.stop() == 0
    daemon.wait_log(" stopped")  # the last line may still be in the pipe
    assert daemon.log.isascii()
    events = [line.split(" ")[2:5] for line in daemon.log.replace("  ", " ").replace("  ", " ").splitlines()]
    assert [words[0] for words in events] == ["listening", "denied", "stopping", "stopped"]


def test_never_an_answer_without_a_request(world: World) -> None:
    """Whatever bytes come in whatever pieces: one answer for each newline, and none for what follows the last one."""
    program = world.granted("talker", "aws")
    world.start()
    noise = random.Random(11)
    for _ in range(30):
        talker = world.talker(program)
        stream = b"".join(
            noise.choice([b"\n", b"{}", b'"', noise.randbytes(9), json.dumps(read("a")).encode() + b"\n"])
            for _ in range(noise.randrange(1, 40))
        )
        while stream:
            size = noise.randrange(1, 60)
            talker.send_raw(stream[:size])
            asked, stream = stream[:size].count(b"\n"), stream[size:]
            for _ in range(asked):
                assert talker.answer()["status"] in ("success", "error")
        talker.order("half-close")
        assert talker.eof()
        with pytest.raises(StreamEnded):
            talker.readline()  # every answer was asked for


def test_an_answer_has_a_bound_before_it_is_made(world: World) -> None:
    """40 values of 250 kB are 10 MB; a thousand of them would be a quarter of a gigabyte."""
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    names = [f"big{number:02}" for number in range(40)]
    for first in range(0, 40, 4):
        assert talker.ask(write(dict.fromkeys(names[first : first + 4], "x" * 250000))) == SUCCESS
    before = daemon.rss()
    for asked in (read(*names), read("big", match="prefix")):
        for _ in range(5):
            assert talker.ask(asked) == failed("answer_too_large")
    assert daemon.rss() - before < 16 * 1024 * 1024
    assert len(talker.ask(read("big0", match="prefix"))["results"]) == 10
    assert len(talker.ask(request("search", targets=["big"]))["results"]) == 40
    assert [line["result"] for line in world.audit() if line["reason"] == "answer_too_large"] == ["ERROR"] * 10


def test_a_search_has_the_same_bound(world: World) -> None:
    program = world.granted("talker", "aws")
    world.write_settings("[limits]\nanswer_bytes = 100\n")
    world.start()
    talker = world.talker(program)
    assert talker.ask(write({f"target {number:03}": "" for number in range(11)})) == SUCCESS
    assert talker.ask(request("search")) == failed("answer_too_large")
    assert talker.ask(request("delete", match="prefix", targets=["target"])) == failed("answer_too_large")
    assert len(talker.ask(request("search", targets=["target 003"]))["results"]) == 1
    assert talker.ask(read("target 001"))["results"] == [{"target": "target 001", "value": ""}]
