"""How long a program that is registered waits while strangers do their worst: alone, then beside each flood.

Three honest clients, one after the other: ``open`` asks again and again on one connection; ``connect`` connects, asks
and closes; ``script`` does the same from a registered Python script (the grade ``declared``). The strangers run on all
processors, that of the daemon included: part of what is measured is the scheduler's share.
"""

from __future__ import annotations

import json
import os
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from lab import Lab, Sample, source
from report import Row, number

from support.signing import Publisher

_ROUNDS = 3
_SECONDS = 1.0  # of one measurement; a short run takes its own, shorter time
_GOAL_MS = 50.0  # what a flood may add to p99
_GOAL_MIB = 8.0  # what a flood may leave in the daemon's memory
_CLIENTS = ("open", "connect", "script")
Waits = dict[str, Sample]
_HONEST_SCRIPT = """
import json, socket, sys, time
path, line, seconds = sys.argv[1], open(sys.argv[2], "rb").read(), float(sys.argv[3])
times, until = [], time.monotonic() + seconds
while (began := time.monotonic()) < until:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.sendall(line)
        answer = b""
        while not answer.endswith(b"\\n"):
            answer += connection.recv(65536) or sys.exit("the connection ended")
    if b'"success"' not in answer:
        sys.exit(answer.decode())
    times.append(time.monotonic() - began)
times.sort()
print(json.dumps({name: times[int(len(times) * part)] * 1e6 for name, part in (("p50_us", .5), ("p99_us", .99))}))
"""
# Starts small, is compiled, and is then large: nobody has to write 900 MiB, and each has another hash.
_EVIL_SCRIPT = """
import os, socket, sys, time
os.truncate(sys.argv[0], 900 * 1024 * 1024)
def connect():
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(sys.argv[1])
    return connection
crowd = [connect() for _ in range(32)]
print("ready", flush=True)
while True:
    time.sleep(1)
    crowd = crowd[4:] + [connect() for _ in range(4)]
# number NUMBER
"""
_PYTHON = os.path.realpath("/usr/bin/python3")


def measure(lab: Lab) -> Iterator[Row]:
    """For each flood: what it adds to p99 of the honest clients, round by round, and what it leaves in memory."""
    floods = Floods(lab)
    alone: list[Waits] = []
    beside: dict[str, list[Waits]] = {name: [] for name, _ in floods.all}
    grown: dict[str, list[float]] = {name: [] for name, _ in floods.all}
    for _ in range(_ROUNDS if lab.settings.rounds > 1 else 1):
        alone.append(floods.waits())
        for name, flood in floods.all:
            before = lab.daemon.process.rss()
            with flood():
                beside[name].append(floods.waits())
            grown[name].append((lab.daemon.process.rss() - before) / 2**20)
    for client in _CLIENTS:
        ours = [waits[client] for waits in alone]
        yield Row(f"no flood, {client}: p99", [wait.p99_us / 1000 for wait in ours], "ms", beside=_medians(ours))
    for name, _ in floods.all:
        for client in _CLIENTS:
            ours = [waits[client] for waits in beside[name]]
            more = [(wait.p99_us - quiet[client].p99_us) / 1000 for wait, quiet in zip(ours, alone, strict=True)]
            yield Row(
                f"{name}, {client}: more p99", [max(0.0, ms) for ms in more], "ms", _GOAL_MS, beside=_medians(ours)
            )
        yield Row(f"{name}: more memory", [max(0.0, size) for size in grown[name]], "MiB", _GOAL_MIB)


def _medians(waits: list[Sample]) -> str:
    p50, p99 = (statistics.median(getattr(wait, field) / 1000 for wait in waits) for field in ("p50_us", "p99_us"))
    return f"p50 {number(p50)} ms, p99 {number(p99)} ms"


class Floods:
    """The honest clients and the strangers."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._seconds = _SECONDS if lab.settings.rounds > 1 else lab.settings.seconds
        self._request = lab.request({"action": "read", "targets": ["a"]})
        self._script = lab.world.write("honest.py", _HONEST_SCRIPT)
        self._crowd = lab.world.build_client("crowd", source=source("crowd.c"))
        lab.register(self._script, "--script", "--allow-declared", "--interpreter", _PYTHON)
        self.all: tuple[tuple[str, Callable[[], AbstractContextManager[None]]], ...] = (
            ("80 connections, 2 GiB", lambda: self._sparse(1, 2048, 80)),
            ("10 programs of 900 MiB", lambda: self._sparse(10, 900, 8)),
            ("1,000 silent connections", lambda: self._strangers("silent", 20, 50)),
            ("64 strangers that ask", lambda: self._strangers("asking", 4, 16)),
            ("20 scripts of 900 MiB", self._scripts),
            ("forged signatures, 64 trusted keys", self._forged),
        )

    # --- the honest --------------------------------------------------------------------------------

    def waits(self) -> Waits:
        """Each honest client once."""
        lab, seconds = self._lab, self._seconds
        script = [_PYTHON, self._script, lab.daemon.socket, self._request, str(seconds)]
        clients = (
            lab.words("steady", lab.daemon, self._request, 1, seconds),
            lab.words("connect", lab.daemon, self._request, 1, seconds),
            script,
        )
        seen = [json.loads(lab.run(words)) for words in clients]
        return {
            client: Sample(0, wait["p50_us"], wait["p99_us"], 0) for client, wait in zip(_CLIENTS, seen, strict=True)
        }

    # --- the strangers -----------------------------------------------------------------------------

    def _strangers(
        self, mode: str, processes: int, connections: int, program: str = ""
    ) -> AbstractContextManager[None]:
        words = [program or self._crowd, mode, self._lab.daemon.socket, str(processes), str(connections)]
        return self._spawned(words)

    @contextmanager
    def _sparse(self, programs: int, mebibytes: int, connections: int) -> Iterator[None]:
        with ExitStack() as crowds:
            for number in range(programs):
                path = self._lab.world.build_client(f"sparse{number}", f"v{number}", source("crowd.c"))
                os.truncate(path, mebibytes * 1024 * 1024)
                crowds.enter_context(self._strangers("silent", 1, connections, path))
            yield

    @contextmanager
    def _scripts(self) -> Iterator[None]:
        with ExitStack() as crowds:
            for number in range(20):
                path = self._lab.world.write(f"evil{number}.py", _EVIL_SCRIPT.replace("NUMBER", str(number)))
                crowds.enter_context(self._spawned([_PYTHON, path, self._lab.daemon.socket]))
            yield

    @contextmanager
    def _forged(self) -> Iterator[None]:
        """Small programs that end as signed ones do. Their files seem to change all the time: nothing is remembered."""
        world, policy = self._lab.world, self._lab.world.read_policy()
        signers = [Publisher().signer(f"signer{number}") for number in range(64)]
        world.write_policy({**policy, "trusted_signers": signers})
        crowd, stranger = source("crowd.c"), Publisher()
        paths = [stranger.build(world, f"forged{number}", f"v{number}", source=crowd) for number in range(4)]
        ended = threading.Event()

        def touch() -> None:
            while not ended.wait(0.5):
                for path in paths:
                    os.chmod(path, 0o700)

        toucher = threading.Thread(target=touch)
        toucher.start()
        try:
            with ExitStack() as crowds:
                for path in paths:
                    crowds.enter_context(self._strangers("asking", 1, 8, path))
                yield
        finally:
            ended.set()
            toucher.join()
            world.write_policy({**world.read_policy(), "trusted_signers": []})

    @contextmanager
    def _spawned(self, words: list[str]) -> Iterator[None]:
        process = self._lab.world.spawn(words)
        try:
            process.out.find(lambda line: line == b"ready")
            yield
        finally:
            process.close()
