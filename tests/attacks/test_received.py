"""A connection from before the exec, handed to the trusted program in a message that it receives close-on-exec."""

from __future__ import annotations

import json
import os
import signal

import pytest

from attacks.lab import ASK, ASK_TEXT, answer_of, build, start, won
from attacks.launch_lab import registered
from support.daemon import Daemon
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


# A script of the attacker's connects, and asks for the time of an approval; then it becomes the launched script.
_FRONT = """
import os, socket, sys, time
words, daemon, path, ask, pending = sys.argv[5:], *sys.argv[1:5]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
connection = socket.socket(socket.AF_UNIX)
connection.connect(daemon)
connection.sendall(ask.encode() + bytes([10]))
while not (os.path.exists(pending) and sys.argv[0] in open(pending).read()):
    time.sleep(0.01)  # until it waits
if os.fork():
    os.execv(words[0], words)
client, _ = server.accept()
socket.send_fds(client, [b"x"], [connection.fileno()])
print("answer", connection.makefile().readline(), end="", flush=True)
"""
_RECEIVING = """
import os, socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(os.environ["SERVER"])
client.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
print("received", flush=True)
sys.stdin.read()
"""


def test_a_connection_from_before_the_launch_that_comes_in_a_message(world: World, keeper: Daemon) -> None:
    """It waits for an approval when the script is launched; the approval is for the attacker's own script."""
    interpreter = world.installation.interpreter
    script = registered(world, world.write("app.py", _RECEIVING))
    front, server = world.write("front.py", _FRONT), world.path("run/server")
    launch = [world.python, "-m", "keychain_auth.cli.main", "launch", script]
    ask, pending = json.dumps({**ASK, "wait": 600}), os.path.join(world.config_dir, "pending.json")
    env = {"KEYCHAIN_AUTH_SOCKET": world.socket, "SERVER": server}
    attacker = world.spawn([interpreter, front, world.socket, server, ask, pending, *launch], env=env)
    attacker.out.find(lambda line: line == b"received")
    registered(world, front, "--allow-declared")
    assert answer_of(attacker)["reason"] == "socket_not_cloexec"
    keeper.wait_log("it was launched after that connection was made")
