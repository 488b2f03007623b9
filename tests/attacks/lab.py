"""What the attacks have in common: a trusted program, a secret of its, and how to see who won."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from attacks.naive import SECRET, NaiveBroker
from daemon.requests import SUCCESS, read, write
from support.daemon import Daemon
from support.lines import until
from support.process import Process
from support.world import World

HERE = os.path.dirname(os.path.abspath(__file__))
ASK = read("secret")
ASK_TEXT = json.dumps(ASK)
Broker = Callable[..., NaiveBroker]
x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="the injected code is for x86-64")


def source(name: str) -> str:
    """The C file of an attack."""
    return os.path.join(HERE, "c", f"{name}.c")


def build(world: World, name: str, *flags: str, variant: str = "plain") -> str:
    """Compile the attack ``name`` into the world's bin folder; returns its path."""
    return world.build_client(name if not variant or variant == "plain" else variant, variant, source(name), flags)


def build_library(world: World, name: str, file: str = "") -> str:
    """The same as a shared library, of the file name ``file``."""
    return world.build_client(file or f"{name}.so", "plain", source(name), ("-shared", "-fPIC"))


def build_asker(world: World, **more: Any) -> str:
    """The registered program that does nothing but ask; ``more`` are fields of its entry."""
    program = build(world, "asker", "-pthread")
    world.allow(program, ["aws"], ["aws"], **more)
    return program


def start(world: World, trusted: str = "") -> Daemon:
    """Start the daemon; ``trusted``, a talker, or else the command line stores the secret."""
    daemon = world.start()
    if trusted:
        assert world.talker(trusted).ask(write({"secret": SECRET})) == SUCCESS
    else:
        assert world.cli("set", "aws", "secret", input=SECRET).returncode == 0
    return daemon


def won(answer: dict[str, object]) -> bool:
    """Does the answer hold the secret?"""
    return SECRET in json.dumps(answer)


def answer_of(attacker: Process, start: int = 0) -> dict[str, Any]:
    """What an attack program was answered: its line "answer JSON"."""
    at = attacker.out.find(lambda line: line.startswith(b"answer "), start)
    answer = json.loads(attacker.out[at][7:].rstrip(b"\0"))
    assert isinstance(answer, dict)
    return answer


def attack(world: World, *words: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run an attack program to its answer."""
    return answer_of(world.spawn(words, env=env))


def wait_until_it_is(pid: int, program: str) -> None:
    """Wait until an exec is over: the link shows the new file some time before the memory is laid out, and whoever
    is looked at in between is refused for that. Afterwards each of these programs waits for something, asleep."""

    def is_over() -> bool:
        if os.readlink(f"/proc/{pid}/exe") != program:
            return False
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "S"

    until(is_over, f"{pid} runs {program}")


MAY_NOT_TRACE = "this kernel forbids to look into processes that are not one's children (yama.ptrace_scope)"


def may_trace() -> bool:
    """May a process here trace others of the same user?"""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as file:
            return file.read().strip() == "0"
    except FileNotFoundError:
        return True


def need_user_namespaces(world: World) -> None:
    """Skip where an unprivileged user cannot make one."""
    _need(world, ["/usr/bin/unshare", "--user", "--map-current-user", "/bin/true"], "user namespaces for everybody")


def _need(world: World, words: Sequence[str], what: str) -> None:
    done = subprocess.run(
        words, env=world.environment(), capture_output=True, check=False, cwd="/", **world.user.popen()
    )
    if done.returncode != 0:
        pytest.skip(f"this machine has no {what}: {done.stderr.decode('utf-8', 'replace').strip()}")
