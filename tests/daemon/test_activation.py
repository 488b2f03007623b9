"""Sockets that outlive a daemon: handed over by systemd, or by the daemon before."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from typing import Any

import pytest

from daemon.requests import SUCCESS, read, results, write
from support.daemon import Daemon
from support.world import World, sha256_of

ACTIVATE = shutil.which("systemd-socket-activate") or ""
needs_systemd = pytest.mark.skipif(not ACTIVATE, reason="systemd-socket-activate is not here (Debian: systemd)")


def activated(world: World, *sockets: str, ready: bool = False) -> Daemon:
    """A daemon that systemd-socket-activate starts when somebody connects."""
    for path in sockets:
        folder = os.path.dirname(path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        world.user.own(folder)
    words = [ACTIVATE, *(word for path in sockets for word in ("-l", path))]
    # It passes on hardly any variable.
    words += [word for name, value in world.environment().items() for word in ("-E", f"{name}={value}")]
    daemon = world.start(before=words, ready=ready)
    daemon.err.find(lambda line: b"Listening on" in line and sockets[-1].encode() in line)
    return daemon


def admin_of(world: World) -> str:
    return os.path.join(os.path.dirname(world.socket), "admin.sock")


@needs_systemd
def test_the_first_who_connects_starts_the_daemon_and_is_served(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = activated(world, world.socket, admin_of(world))
    talker = world.talker(program)
    daemon.wait_ready()
    assert talker.ask(write({"a": "1"})) == SUCCESS
    assert world.cli_json("status")["pid"] == daemon.pid


@needs_systemd
def test_the_handed_sockets_are_inherited_by_no_child_and_named_to_none(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = activated(world, world.socket, admin_of(world))
    world.talker(program)
    daemon.wait_ready()
    listening = 0
    for number in os.listdir(f"/proc/{daemon.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # what it had open for a moment
            with open(f"/proc/{daemon.pid}/fdinfo/{number}", encoding="ascii") as lines:
                flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags"))
            if os.readlink(f"/proc/{daemon.pid}/fd/{number}").startswith("socket:"):
                listening += 1
                assert flags & os.O_CLOEXEC, number
    assert listening >= 2


@needs_systemd
def test_what_systemd_made_systemd_removes(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = activated(world, world.socket)
    talker = world.talker(program)
    daemon.wait_ready()
    talker.ask(read("a"))
    assert daemon.stop() == 0
    assert os.path.exists(world.socket)
    assert not os.path.exists(admin_of(world))  # that one the daemon made


@needs_systemd
def test_a_socket_at_another_path_is_refused(world: World) -> None:
    other = world.path("run/keychain-auth/other.sock")
    daemon = activated(world, other)
    with socket.socket(socket.AF_UNIX) as knock:
        knock.connect(other)
        assert daemon.wait() == 1
    assert "not its own" in daemon.log
    assert "Next: let ListenStream=" in daemon.log


def test_variables_meant_for_another_process_are_not_believed(world: World) -> None:
    daemon = world.start(env={"LISTEN_PID": "1", "LISTEN_FDS": "2"})
    assert world.cli_json("status")["pid"] == daemon.pid


@needs_systemd
def test_what_was_sent_while_the_daemon_starts_is_answered(world: World) -> None:
    """The kernel names its sender, although the socket did not ask for that yet."""
    program = world.granted("talker", "aws")
    activated(world, world.socket)
    early = world.talk([program, world.socket])
    early.send(read("a"))
    assert early.connected().answer() == results()


# --- restart --------------------------------------------------------------------------------------


def test_a_restart_keeps_the_sockets_and_the_pid(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    assert world.talker(program).ask(write({"a": "1"})) == SUCCESS
    inode = os.stat(world.socket).st_ino
    told = world.cli_json("restart")
    assert told["pid"] == daemon.pid
    assert os.stat(world.socket).st_ino == inode
    assert world.talker(program).ask(read("a")) == results({"target": "a", "value": "1"})
    assert [line["action"] for line in world.audit()].count("daemon_start") == 2
    assert daemon.stop() == 0
    assert not os.path.exists(world.socket)  # a daemon made it, the last one removes it


def test_what_was_asked_before_a_restart_is_answered(world: World) -> None:
    """Writes are pipelined without pause: each that the kernel took is answered, and what was answered is there."""
    program = world.granted("talker", "aws")
    world.start()
    talker = world.talker(program)
    talker.send(*(write({f"{number:03}": "x" * 20000}) for number in range(200)))
    assert talker.answer() == SUCCESS
    world.cli_json("restart")
    talker.eof()
    answered = [json.loads(line) for line in talker.answers()]
    assert answered == [SUCCESS] * len(answered)
    search: dict[str, Any] = {"type": "REQUEST", "action": "search", "service": "aws"}
    assert len(world.talker(program).ask(search)["results"]) == len(answered)


def test_clients_that_go_on_asking_notice_no_restart(world: World) -> None:
    """Many programs read and write while the daemon is restarted three times: nobody meets an error."""
    script = world.write("work.py", _WORKER)
    interpreter = {"path": world.installation.interpreter, "hash": sha256_of(world.installation.interpreter)}
    world.allow(script, ["aws"], ["aws"], interpreter=interpreter, minimum_grade="declared")
    world.start()
    workers = [world.spawn([world.python, script, str(number)]) for number in range(4)]
    for worker in workers:
        worker.out.find(lambda line: line == b"working")
    for _ in range(3):
        world.cli_json("restart")
    for worker in workers:
        worker.end_input()
    for worker in workers:
        assert worker.wait() == 0, worker.err.text()


_WORKER = """
import sys, threading
from keychain_auth import KeychainAuthClient

stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
name = sys.argv[1]
count = 0
with KeychainAuthClient() as client:
    while not stop.is_set():
        count += 1
        client.write("aws", {name: str(count)})
        assert client.get("aws", name) == str(count)
        if count == 5:
            print("working", flush=True)
"""


def test_a_restart_that_could_not_start_is_refused(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    world.write(".config/keychain-auth/daemon.toml", "strict = maybe\n")
    done = world.cli("restart")
    assert done.returncode == 1
    assert "daemon.toml" in done.stderr
    world.write_settings("")
    world.write(".config/keychain-auth/config.json", "{")
    done = world.cli("restart")
    assert done.returncode == 1
    assert "config.json" in done.stderr
    assert daemon.returncode is None
    assert world.talker(program).ask(read("a")) == results()
