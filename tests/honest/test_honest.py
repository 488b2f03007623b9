"""Honest clients in several languages are granted, each time, while the machine is busy; or told what to change.

``make honest`` is the same with 10,000 connections (``HONEST`` says how many).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from daemon.requests import read
from support import programs
from support.lines import until
from support.process import Process
from support.world import World

HERE = os.path.dirname(os.path.abspath(__file__))
CONNECTIONS = int(os.environ.get("HONEST", "500"))
ASK = json.dumps(read("secret"))
PATIENCE = 60 + CONNECTIONS / 20
NOT_CLOEXEC = "its descriptor is inheritable: open the socket with SOCK_CLOEXEC"


def own(name: str) -> str:
    return os.path.join(HERE, name)


def c(world: World) -> list[str]:
    return native(world, programs.compiled(own("client.c")), "client-c")


def rust(world: World) -> list[str]:
    return native(world, built(world, "rustc", "-O", "-o", world.path("tmp/rs"), own("client.rs")), "client-rust")


def go(world: World) -> list[str]:
    return native(world, built(world, "go", "build", "-o", world.path("tmp/go"), own("client.go")), "client-go")


def built(world: World, *words: str) -> str:
    """Run a compiler; the path of what it made. Skips where there is none."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]} on this machine")
    if subprocess.run(
        (words[0], "--version" if words[0] == "rustc" else "version"), capture_output=True, check=False
    ).returncode:
        pytest.skip(f"the {words[0]} of this machine does not run for this user (a version manager without a version?)")
    made = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "GO111MODULE": "off"})
    assert made.returncode == 0, made.stderr
    return words[words.index("-o") + 1]


def native(world: World, program: str, name: str) -> list[str]:
    path = programs.install(program, world.path("bin", name), world.user)
    world.cli("register", path)
    world.cli("authorize", path, "aws", "--read")
    return [path, world.socket, ASK]


def python(world: World) -> list[str]:
    with open(own("client.py"), encoding="utf-8") as file:
        script = declared(world, world.write("client.py", file.read()), os.path.realpath(world.python))
    return [world.python, script, "aws", "secret"]


def node(world: World) -> list[str]:
    program = shutil.which("node", path="/usr/local/bin:/usr/bin:/bin")
    if program is None:
        pytest.skip("no node on this machine")
    with open(own("client.js"), encoding="utf-8") as file:
        script = declared(world, world.write("client.js", file.read()), os.path.realpath(program))
    return [program, script, world.socket, ASK]


def declared(world: World, script: str, interpreter: str) -> str:
    done = world.cli("register", "--script", script, "--allow-declared", "--interpreter", interpreter)
    assert done.returncode == 0, done.stderr
    world.cli("authorize", script, "aws", "--read")
    return script


def load(world: World) -> list[Process]:
    """Two for each processor that do nothing else than to be busy."""
    busy = 2 * (os.cpu_count() or 1)
    return [world.spawn(["/bin/sh", "-c", "while :; do :; done"]) for _ in range(busy)]


@pytest.mark.parametrize(("client", "share"), [(c, 0.6), (rust, 0.1), (go, 0.1), (python, 0.1), (node, 0.1)])
def test_every_honest_connection_is_granted(world: World, client: Callable[[World], list[str]], share: float) -> None:
    world.start()
    world.cli("set", "aws", "secret", input="x")
    words = client(world)
    busy = load(world)
    wanted = max(1, int(CONNECTIONS * share))
    running = world.spawn([*words, str(wanted)], env={"KEYCHAIN_AUTH_SOCKET": world.socket})
    at = running.out.find(lambda line: line.startswith(b"granted "), timeout=PATIENCE)
    for process in busy:
        process.kill()
    assert running.out.all() == [f"granted {wanted}".encode()]
    assert running.out[at]
    counts = world.cli_json("status")["counts"]
    assert counts == {"admitted": wanted}


def test_a_client_that_forgets_close_on_exec_is_told(world: World) -> None:
    daemon = world.start()
    words = c(world)
    running = world.spawn([*words, "1", "inheritable"])
    running.out.find(lambda line: b"socket_not_cloexec" in line)
    assert NOT_CLOEXEC in daemon.wait_log("refused reason=socket_not_cloexec")


def test_a_relay_is_told_what_to_register_instead(world: World) -> None:
    """socat lends its name to whoever speaks through it."""
    socat = shutil.which("socat", path="/usr/bin:/bin")
    if socat is None:
        pytest.skip("no socat on this machine: apt-get install socat")
    done = world.cli("register", socat)
    assert done.returncode == 2
    assert "runs other programs, or speaks for them" in done.stderr
    assert "keychain-auth register --script SCRIPT" in done.stderr
    daemon = world.start()
    running = world.spawn([socat, "-t", "20", "-", f"UNIX-CONNECT:{world.socket}"])
    running.feed(ASK.encode() + b"\n")
    until(lambda: b"unregistered_binary_pending_approval" in running.out.text().encode(), "it is refused")
    assert "keychain-auth register PATH, of the program behind it" in daemon.wait_log("refused reason=unregistered")
