"""Where the benchmark measures: one throwaway home, one daemon with 10,000 secrets, one load generator, one echo.

What is measured is the product as people run it: started, registered and authorised through its command line, every
rule of identity and the audit log on, by an unprivileged user, asked by registered native programs. Servers are pinned
to one processor, what asks them to another. Two things that are compared take turns, round after round.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))

from support.daemon import Daemon  # noqa: E402
from support.process import Process  # noqa: E402
from support.world import World  # noqa: E402

SERVICE = "bench"
SUCCESS = '{"type":"RESPONSE","status":"success"'
FOUND = SUCCESS + ',"results":[{"target":"'
STORED = 10_000
VALUE = "postgres://app:{:024d}@db.staging.example:5432/app"
_AT_ONCE = 500


def name(number: int) -> str:
    """Stored secret ``number``: "proj_4:" begins 1,000 of them, "proj_4:env_2:" 100, "proj_4:env_2:app_7:" 10."""
    return f"proj_{number // 1000}:env_{number // 100 % 10}:app_{number // 10 % 10}:DATABASE_URL_{number % 10}"


READ = {"action": "read", "targets": [name(4275)]}


def prefix_read(prefix: str) -> dict[str, object]:
    """The request for everything that begins with ``prefix``."""
    return {"action": "read", "match": "prefix", "targets": [prefix]}


@dataclass(frozen=True)
class Settings:
    """``seconds`` and ``warmup`` are of one measurement, of ``rounds``; there are ``starts`` of whole processes."""

    rounds: int
    seconds: float
    warmup: float
    starts: int
    server_cpu: int | None
    load_cpu: int | None


@dataclass(frozen=True)
class Sample:
    """One measurement of the load generator. ``cpu_us`` is the server's processor time for each request."""

    per_second: float
    p50_us: float
    p99_us: float
    cpu_us: float


class Server:
    """What answers on a socket, and its process."""

    def __init__(self, socket: str, process: Process) -> None:
        self.socket = socket
        self.process = process


class Lab:
    """See above. Parts of the benchmark get one, all the same."""

    def __init__(self, world: World, settings: Settings, stored: int = STORED) -> None:
        self.stored = stored
        self.world = world
        self.settings = settings
        self.idle_rss = 0
        self.filled_rss = 0
        # No link and no copy afterwards: registered is the file that runs.
        self.load = world.build_client("load", source=source("load.c"))
        self._process: Daemon | None = None
        self._begin()
        self.echo = self._start_echo(self.ask(READ))

    # --- servers ------------------------------------------------------------------------------

    @property
    def daemon(self) -> Server:
        """The daemon of this moment (``restart`` replaces it)."""
        assert self._process is not None
        return Server(self._process.socket, self._process)

    def restart(self) -> Daemon:
        """Stop the daemon in good order and start it again."""
        if self._process is not None:
            self._process.stop()
        return self.launch().wait_ready()

    def launch(self) -> Daemon:
        """Start a daemon in place of one that was stopped; it does not listen yet."""
        with pinned(self.settings.server_cpu):
            self._process = self.world.start(ready=False)
        return self._process

    def _begin(self) -> None:
        self.idle_rss = self.restart().rss()
        self.register(self.load)
        for first in range(0, self.stored, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, self.stored))
            names, values = [name(number) for number in numbers], [VALUE.format(number) for number in numbers]
            stored = self.ask({"action": "write", "targets": names, "values": values})
            if not stored.startswith(SUCCESS.encode()):
                raise SystemExit(f"the daemon did not store the secrets: {stored!r}")
        self.filled_rss = self.restart().rss()

    def register(self, program: str, *more: str) -> None:
        """Register and authorise ``program`` for everything that the benchmark asks."""
        for words in (
            ("register", *more, program),
            ("authorize", program, SERVICE, "--read", "--write", "--search"),
        ):
            done = self.world.cli(*words)
            if done.returncode != 0:
                raise SystemExit(f"keychain-auth {' '.join(words)}: {done.stderr}")

    def _start_echo(self, answer: bytes) -> Server:
        """The floor, with the answer that the daemon gave."""
        program = self.world.build_client("echo", source=source("echo.c"))
        return self._start_floor("echo.sock", [program], answer)

    def start_bare(self, answer: bytes) -> Server:
        """The floor of all that is written in Python (``bare.py``), with this answer."""
        return self._start_floor("bare.sock", [self.world.python, "-I", "-S", copied(self.world, "bare.py")], answer)

    def _start_floor(self, name: str, words: list[str], answer: bytes) -> Server:
        socket = self.world.path(name)
        with pinned(self.settings.server_cpu):
            floor = self.world.spawn([*words, socket, self.world.write("answer", answer)])
        floor.err.find(lambda line: line.startswith(b"listening"))
        return Server(socket, floor)

    # --- asking -------------------------------------------------------------------------------

    def request(self, *requests: Mapping[str, object]) -> str:
        """A file with these requests, each as one line: they are asked in turn."""
        lines = [
            json.dumps({"type": "REQUEST", "service": SERVICE, **fields}, separators=(",", ":")) + "\n"
            for fields in requests
        ]
        content = "".join(lines)
        return self.world.write(f"request-{abs(hash(content)):x}", content)

    def ask(self, fields: Mapping[str, object]) -> bytes:
        """The daemon's answer to one request."""
        return self.run([self.load, "ask", self.daemon.socket, self.request(fields)])

    def run(self, words: list[str]) -> bytes:
        """Run a program on the processor of the load to its end; what it printed."""
        with pinned(self.settings.load_cpu):
            done: subprocess.CompletedProcess[bytes] = subprocess.run(
                words, env=self.world.environment(), cwd=self.world.home, capture_output=True, check=False,
                stdin=subprocess.DEVNULL, **self.world.user.popen(),
            )  # fmt: skip
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise SystemExit(f"{words[0]} ended with {done.returncode}: {said}")
        return done.stdout

    def words(self, mode: str, server: Server, request: str, connections: int, seconds: float) -> list[str]:
        """The command line of a load generator; ``mode`` as in load.c."""
        return [
            self.load, mode, server.socket, request, SUCCESS, str(connections), str(seconds),
            str(self.settings.warmup),
        ]  # fmt: skip

    def measure(
        self, server: Server, mode: str, connections: int, *requests: Mapping[str, object], program: str = ""
    ) -> Sample:
        """One measurement of these requests in turn (``READ`` if there is none). ``program``: another copy of the load
        generator."""
        before = server.process.cpu_seconds()
        words = self.words(mode, server, self.request(*(requests or (READ,))), connections, self.settings.seconds)
        seen = json.loads(self.run([program or self.load, *words[1:]]))
        used = server.process.cpu_seconds() - before
        if not seen["requests"]:
            raise SystemExit("no request was answered after the warm-up")
        return Sample(seen["per_second"], seen["p50_us"], seen["p99_us"], used * 1e6 / seen["total"])

    def rounds(self, *measurements: Callable[[], Sample]) -> list[list[Sample]]:
        """Each measurement once a round, in an order that turns around; for each its samples in order of rounds."""
        samples: list[list[Sample]] = [[] for _ in measurements]
        for turn in range(self.settings.rounds):
            order = range(len(measurements))
            for at in order if turn % 2 == 0 else reversed(order):
                samples[at].append(measurements[at]())
        return samples

    @property
    def busy(self) -> str:
        """The load generator's mode that shows the server alone: without a processor of its own it has to sleep."""
        return "steady" if self.settings.load_cpu is None else "spin"


def source(file: str) -> str:
    """A file of this folder."""
    return os.path.join(ROOT, "bench", file)


def copied(world: World, name: str) -> str:
    """A file of this folder where the user of the daemon can read it."""
    with open(source(name), encoding="utf-8") as file:
        return world.write(name, file.read())


@contextlib.contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """What is started inside runs on this processor: a child inherits the affinity of the thread that starts it."""
    if cpu is None:
        yield
        return
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def machine(settings: Settings) -> dict[str, object]:
    """What the figures depend on."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    compiler = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    packages = {package: metadata.version(package) for package in ("keychain-auth", "msgspec", "cryptography")}
    return {
        "processor": names[0] if names else platform.machine(), "processors": os.cpu_count(),
        "kernel": platform.release(), "python": platform.python_version(), "gcc": compiler.stdout.strip(),
        **packages, **asdict(settings), "load before": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def choose_settings(quick: bool) -> Settings:
    """Two processors if this process may use two; with one, server and generator share it."""
    usable = sorted(os.sched_getaffinity(0))
    server, load = (usable[0], usable[1]) if len(usable) > 1 else (None, None)
    if quick:
        return Settings(rounds=1, seconds=0.4, warmup=0.1, starts=5, server_cpu=server, load_cpu=load)
    return Settings(rounds=5, seconds=1.0, warmup=0.2, starts=30, server_cpu=server, load_cpu=load)
