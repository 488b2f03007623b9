"""A connection from before the exec, handed to the trusted program in a message that it receives close-on-exec."""

from __future__ import annotations

import signal

import pytest

from attacks.lab import ASK_TEXT, answer_of, build, start, won
from support.process import Process
from support.world import World

# The attacker connects and asks, gives a copy of the connection to his server, and becomes the trusted program. The
# server hands the copy to it in its first message, and reads the answer.
_ATTACK = """
import os, socket, sys
trusted, daemon, path, ask = sys.argv[1:]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
ours, theirs = socket.socketpair()
if os.fork():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(daemon)
    connection.sendall(ask.encode() + bytes([10]))
    socket.send_fds(ours, [b"x"], [connection.fileno()])
    os.execv(trusted, [trusted, path])
_, fds, _, _ = socket.recv_fds(theirs, 1, 1)
client, _ = server.accept()
socket.send_fds(client, [b"x"], fds)
print("answer", socket.socket(fileno=fds[0]).makefile().readline(), end="", flush=True)
"""


def attack(world: World, trusted: str, socket: str) -> Process:
    return world.spawn([world.python, "-c", _ATTACK, trusted, socket, world.path("run/server"), ASK_TEXT])


@pytest.mark.parametrize("strict", [False, True])
def test_expected_open_but_in_strict_mode_a_connection_that_comes_in_a_message(world: World, strict: bool) -> None:
    """There is time enough: who is of the daemon's user may stop it meanwhile."""
    program = build(world, "receiver")
    world.allow(program, ["aws"], ["aws"], strict=strict)
    daemon = start(world)
    daemon.signal(signal.SIGSTOP)
    attacker = attack(world, program, world.socket)
    attacker.out.find(lambda line: line == b"received")
    daemon.signal(signal.SIGCONT)
    answer = answer_of(attacker)
    if strict:
        assert answer["reason"] == "socket_not_cloexec"
        daemon.wait_log("is held by other processes too")
    else:
        assert won(answer)
