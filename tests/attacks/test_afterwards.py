"""Attacks beside the daemon: on what a program was given, and on who thinks that he speaks to the daemon."""

from __future__ import annotations

import os
import signal

import pytest

from attacks.lab import ASK_TEXT, answer_of, build_asker, won
from attacks.launch_lab import ASKING, launch, registered
from attacks.naive import SECRET
from support.daemon import Daemon
from support.person import WORDS, protect, tell
from support.process import Process
from support.world import World

_UNLIMITED = ("/bin/sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh")
_WAITING = "\nimport sys\nsys.stdin.read()\n"
# Takes what is sent, and is content with everything.
_IMPOSTOR = """
import os, socket, sys
path = sys.argv[1]
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as lines:
        for line in lines:
            print("heard", line.decode(), end="", flush=True)
            connection.sendall(b'{"ok":true,"result":{"open":false,"outcome":"unlocked","slots":[{"number":1,"kind":"passphrase"}]}}\\n')
"""


def core_of(world: World, process: Process) -> bytes:
    """The core file that a signal leaves in the process's working directory; empty if it leaves none."""
    process.signal(signal.SIGQUIT)
    process.wait()
    found = [name for name in os.listdir(world.home) if name.startswith("core")]
    if not found:
        return b""
    with open(world.path(found[0]), "rb") as file:
        return file.read()


def need_core_files() -> None:
    """Skip where a core file goes to a program, or elsewhere."""
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as file:
        pattern = file.read().strip()
    if not pattern.startswith("core"):
        pytest.skip(f"core files do not stay in the working directory here: kernel.core_pattern is {pattern}")


def test_expected_open_a_core_file_of_a_program_that_was_answered(world: World, keeper: Daemon) -> None:
    """No right to trace is asked for: everybody may send his own process a signal, and read the file."""
    need_core_files()
    program = build_asker(world)
    process = world.spawn([*_UNLIMITED, program, world.socket, ASK_TEXT])
    process.feed(b"\n")
    assert won(answer_of(process))
    assert SECRET.encode() in core_of(world, process)


def test_a_core_file_of_a_launched_script(world: World, keeper: Daemon) -> None:
    need_core_files()
    script = registered(world, world.write("app.py", ASKING + _WAITING))
    process = launch(world, script, cwd=world.home, before=_UNLIMITED)
    process.out.find(lambda line: SECRET.encode() in line)
    assert core_of(world, process) == b""


def test_expected_open_a_listener_of_the_same_user(world: World) -> None:
    """Who may bind the path is the daemon to every client, and to the person who types the passphrase."""
    daemon = world.start()
    protect(world)
    daemon.stop()
    script = world.write("impostor.py", _IMPOSTOR)
    impostor = world.spawn([world.python, script, os.path.join(os.path.dirname(world.socket), "admin.sock")])
    impostor.out.find(lambda line: line == b"ready")
    tell(world, "unlock")
    impostor.out.find(lambda line: WORDS.encode() in line)
