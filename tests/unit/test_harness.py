"""The ground itself: a harness that cannot fail would prove nothing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from support import strays, users
from support.lines import StreamEnded
from support.world import World, sha256_of


@pytest.fixture
def echo(world: World) -> Iterator[str]:
    """A server that answers each line with ``{"line": N}``, N its length, and closes on the line ``bye``."""
    path = world.path("echo.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    world.user.own(path)
    listener.listen()
    clients: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            clients.append(client)
            threading.Thread(target=_answer, args=(client,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for client in clients:
        client.close()


def _answer(client: socket.socket) -> None:
    with client, client.makefile("rb") as lines:
        for line in lines:
            if line == b"bye\n":
                client.shutdown(socket.SHUT_RDWR)
                return
            client.sendall(b'{"line":%d}\n' % len(line))


def test_programs_run_as_an_unprivileged_user(world: World) -> None:
    process = world.spawn(["/usr/bin/id", "-u"])
    assert process.wait() == 0
    process.out.find(lambda line: line == str(world.user.uid).encode())
    assert world.user.uid != 0
    assert os.stat(world.home).st_mode & 0o777 == 0o700


def test_the_user_can_run_the_package(world: World) -> None:
    code = "import keychain_auth.errors as e; print(e.EXIT_NOT_RUNNING)"
    process = world.spawn([world.python, "-c", code])
    assert process.wait() == 0, process.err.text()
    process.out.find(lambda line: line == b"4")


def test_variants_differ_in_bytes_only(world: World) -> None:
    first = world.build_client("first")
    again = world.build_client("again")
    other = world.build_client("other", "other")
    assert sha256_of(first) == sha256_of(again) != sha256_of(other)
    assert os.stat(first).st_uid == world.user.uid


def test_talker_asks_and_answers_come_in_order(world: World, echo: str) -> None:
    talker = world.talker(socket=echo)
    assert talker.ask({"a": 1}) == {"line": 9}
    talker.send({"a": 1}, {"ab": 1})
    assert [talker.answer(), talker.answer()] == [{"line": 9}, {"line": 10}]


def test_talker_sends_half_lines_and_long_ones(world: World, echo: str) -> None:
    talker = world.talker(socket=echo)
    talker.send_raw(b"half")
    talker.send_raw(b" and half\n")
    assert talker.answer() == {"line": 14}
    talker.send_raw(b"!" * 3_000_000 + b"\n")
    assert talker.answer() == {"line": 3_000_001}


def test_all_that_a_program_said_is_there_when_it_has_ended(world: World) -> None:
    """Also where a child of it, of which nobody is told, holds its pipes open."""
    for child in ("", "/bin/sleep 1000 &"):
        process = world.spawn(["/bin/sh", "-c", f"{child} /usr/bin/seq 40000; printf 'and half a line'; exit 3"])
        assert process.wait() == 3
        wanted = [f"{number}".encode() for number in range(1, 40001)]
        assert process.out.all() == (wanted if child else [*wanted, b"and half a line"])


def test_talker_tells_the_end_of_the_stream(world: World, echo: str) -> None:
    talker = world.talker(socket=echo)
    talker.send_raw(b"bye\n")
    assert talker.eof()
    with pytest.raises(StreamEnded):
        talker.readline()
    assert talker.reconnect().ask({}) == {"line": 3}


def test_talker_misbehaves_on_order(world: World, echo: str) -> None:
    talker = world.talker("", "--inheritable", socket=echo)
    for order in ("copy", "many 3", "stop-reading", "read-on", "pass {}", "fork {}"):
        talker.order(order)
    assert [talker.answer(), talker.answer()] == [{"line": 3}] * 2
    other = world.build_client("other", "other")
    talker.feed(b"!exec " + other.encode() + b"\n")
    assert talker.connected().ask({}) == {"line": 3}
    assert os.path.realpath(f"/proc/{talker.pid}/exe") == other
    with pytest.raises(AssertionError, match="unknown order"):
        talker.order("dance")


def test_close_on_exec_is_what_the_talker_does_by_default(world: World, echo: str) -> None:
    talker = world.talker(socket=echo)
    talker.feed(b"!exec " + world.build_client("other", "other").encode() + b"\n")
    talker.event("failed no such descriptor")


def test_talker_says_that_nobody_listens(world: World) -> None:
    with pytest.raises(AssertionError, match="No such file"):
        world.talker(socket=world.path("nobody.sock"))


def test_a_world_leaves_nothing_behind(worlds: Callable[[], World]) -> None:
    world = worlds()
    process = world.spawn(["/bin/sh", "-c", "/bin/sleep 1000 & echo started; wait"])
    process.out.find(lambda line: line == b"started")
    world.close()
    assert not os.path.exists(world.home)
    assert process.returncode == -9


def test_a_process_that_gets_away_is_found_and_killed(
    worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strays, "SOON", 0.1)
    world = worlds()
    script = "echo away; exec /bin/sleep 1000 </dev/null >/dev/null 2>&1"
    process = world.spawn(["/bin/sh", "-c", f"/usr/bin/setsid /bin/sh -c '{script}' & wait"])
    process.out.find(lambda line: line == b"away")
    with pytest.raises(AssertionError, match="got away"):
        world.close()
    assert strays.marked(world.home) == []


def test_policy_written_is_policy_read(world: World) -> None:
    program = world.granted("tool", "aws", allowed_targets=["p:"])
    world.allow(program, ["openai"])
    entries = world.read_policy()["registered_binaries"]
    assert [(entry["path"], entry["allowed_read_services"]) for entry in entries] == [(program, ["openai"])]
    about = os.stat(world.policy_path)
    assert (about.st_uid, about.st_mode & 0o777) == (world.user.uid, 0o600)


def test_values_on_disk_are_noticed(world: World) -> None:
    world.assert_nowhere("hunter2")
    world.write("oops.txt", "password=hunter2")
    with pytest.raises(AssertionError, match="oops"):
        world.assert_nowhere("hunter2")


def test_the_stranger_is_somebody_else(stranger: users.Account, world: World) -> None:
    assert stranger.uid not in (0, world.user.uid)
    process = world.spawn(["/bin/ls", world.home], account=stranger, cwd="/")
    assert process.wait() != 0
