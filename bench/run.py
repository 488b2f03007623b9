"""What keychain-auth costs: measured beside a bare echo of the same bytes, in the same run.

What is measured is the product as people run it: started, registered and authorised through its command line, every
rule of identity and the audit log on, by an unprivileged user, asked by a registered native program.

Daemon and echo take turns, round after round, so that a neighbour's load hits both; the table shows medians and the
range. The server is pinned to one processor, the load generator to another. The echo (bench/echo.c) is the floor: the
kernel's share that no broker can save. With a processor of its own the generator never sleeps, so that what is measured
is the server and not the price of waking a client; that price is in the lines with sleeping clients.

Usage: run.py [--quick]       writes build/bench.json too
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))


from support.process import Process  # noqa: E402
from support.world import World  # noqa: E402

SERVICE = "bench"
SECRETS = 100
TARGET = "proj_123:staging:DATABASE_URL_{:03d}"
VALUE = "postgres://app:{:024d}@db.staging.example:5432/app"
SUCCESS = '{"type":"RESPONSE","status":"success","results":[{"target":"'
CONNECTIONS = (1, 8, 64)
REQUESTS_FOR_RSS = 100_000


@dataclass(frozen=True)
class Settings:
    """``seconds`` and ``warmup`` are of one measurement; there are ``rounds`` of each."""

    rounds: int
    seconds: float
    warmup: float
    server_cpu: int | None
    load_cpu: int | None


@dataclass(frozen=True)
class Sample:
    """One measurement. ``cpu_us`` is the server's processor time for each request."""

    per_second: float
    p50_us: float
    p99_us: float
    cpu_us: float


class Target:
    """A server that answers on a socket, and its process."""

    def __init__(self, name: str, socket: str, process: Process) -> None:
        self.name = name
        self.socket = socket
        self.process = process


class Bench:
    """Two servers, one load generator."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.settings = settings
        # No link and no copy afterwards: registered is the file that runs.
        self.load = world.build_client("load", source=os.path.join(ROOT, "bench", "load.c"))
        self.memory: dict[str, int] = {}
        self.request = ""
        self.answer = b""

    def start_daemon(self) -> Target:
        """Start it, register the load generator, store the secrets; remembers the answer for the echo."""
        with pinned(self.settings.server_cpu):
            daemon = self.world.start()
        self.memory["idle_rss"] = daemon.rss()
        for words in (
            ("register", self.load),
            ("authorize", self.load, SERVICE, "--read", "--write", "--search"),
        ):
            done = self.world.cli(*words)
            if done.returncode != 0:
                raise SystemExit(f"keychain-auth {' '.join(words)}: {done.stderr}")
        names = [TARGET.format(number) for number in range(SECRETS)]
        values = [VALUE.format(number) for number in range(SECRETS)]
        stored = self._ask(daemon.socket, {"action": "write", "targets": names, "values": values})
        if b'"status":"success"' not in stored:
            raise SystemExit(f"the daemon did not store the secrets: {stored!r}")
        read = {"action": "read", "targets": [TARGET.format(SECRETS // 2)]}
        self.answer = self._ask(daemon.socket, read)
        self.request = self._write_request(read)
        return Target("daemon", daemon.socket, daemon)

    def start_echo(self) -> Target:
        """Start the floor, with the answer that the daemon gave."""
        program = self.world.build_client("echo", source=os.path.join(ROOT, "bench", "echo.c"))
        socket = self.world.path("echo.sock")
        answer = self.world.write("answer", self.answer)
        with pinned(self.settings.server_cpu):
            echo = self.world.spawn([program, socket, answer])
        echo.err.find(lambda line: line.startswith(b"listening"))
        return Target("echo", socket, echo)

    def _write_request(self, fields: Mapping[str, object]) -> str:
        line = json.dumps({"type": "REQUEST", "service": SERVICE, **fields}, separators=(",", ":"))
        return self.world.write("request", line + "\n")

    def _ask(self, socket: str, fields: Mapping[str, object]) -> bytes:
        return self._run_load("ask", socket, self._write_request(fields))

    def _run_load(self, *words: str) -> bytes:
        with pinned(self.settings.load_cpu):
            done: subprocess.CompletedProcess[bytes] = subprocess.run(
                [self.load, *words], env=self.world.environment(), cwd=self.world.home, capture_output=True,
                check=False, stdin=subprocess.DEVNULL, **self.world.user.popen(),
            )  # fmt: skip
        if done.returncode != 0:
            raise SystemExit(done.stderr.decode("utf-8", "replace").strip())
        return done.stdout

    def measure(self, target: Target, mode: str, connections: int) -> Sample:
        """One measurement of one server."""
        settings = self.settings
        before = target.process.cpu_seconds()
        out = self._run_load(
            mode, target.socket, self.request, SUCCESS, str(connections), str(settings.seconds),
            str(settings.warmup),
        )  # fmt: skip
        used = target.process.cpu_seconds() - before
        seen = json.loads(out)
        if not seen["requests"]:
            raise SystemExit("no request was answered after the warm-up")
        return Sample(seen["per_second"], seen["p50_us"], seen["p99_us"], used * 1e6 / seen["total"])

    def fill_memory(self, target: Target) -> None:
        """100,000 requests on eight connections, then the daemon's memory."""
        self._run_load("steady", target.socket, self.request, SUCCESS, "8", "600", "0", str(REQUESTS_FOR_RSS))
        self.memory["rss_after_100000"] = target.process.rss()


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
    packages = {name: metadata.version(name) for name in ("keychain-auth", "msgspec", "cryptography")}
    return {
        "processor": names[0] if names else platform.machine(), "processors": os.cpu_count(),
        "kernel": platform.release(), "python": platform.python_version(), "gcc": compiler.stdout.strip(),
        **packages, **asdict(settings),
    }  # fmt: skip


def run(bench: Bench, daemon: Target, echo: Target) -> dict[str, dict[str, list[Sample]]]:
    """Samples by case and server; the order of the two changes from round to round."""
    busy = "steady" if bench.settings.load_cpu is None else "spin"
    cases = list(dict.fromkeys([*((busy, number) for number in CONNECTIONS), ("steady", 8), ("connect", 1)]))
    samples: dict[str, dict[str, list[Sample]]] = {}
    for turn in range(bench.settings.rounds):
        for mode, connections in cases:
            order = (daemon, echo) if turn % 2 == 0 else (echo, daemon)
            for target in order:
                case = samples.setdefault(f"{mode} {connections}", {"daemon": [], "echo": []})
                case[target.name].append(bench.measure(target, mode, connections))
        print(f"round {turn + 1} of {bench.settings.rounds}", file=sys.stderr, flush=True)
    return samples


def spread(samples: list[Sample], field: str) -> tuple[float, float, float]:
    """Median, least and most."""
    numbers = [getattr(sample, field) for sample in samples]
    return statistics.median(numbers), min(numbers), max(numbers)


def print_table(about: dict[str, object], samples: dict[str, dict[str, list[Sample]]]) -> None:
    """The report for people."""
    print("keychain-auth, measured beside a bare C echo of the same bytes")
    print("  " + ", ".join(f"{name} {value}" for name, value in about.items()))
    print("\nexact reads, requests per second: median (min to max)")
    print(f"  {'connections':<15}{'daemon':>30}{'echo':>30}{'daemon/echo':>13}{'p50 µs':>9}{'p99 µs':>9}{'CPU µs':>8}")
    for case, both in samples.items():
        mode, connections = case.split()
        if mode != "connect":
            label = f"{connections} (sleeping)" if mode == "steady" else connections
            ours, floor = (_rate(both[name]) for name in ("daemon", "echo"))
            own = both["daemon"]
            ratio = spread(own, "per_second")[0] / spread(both["echo"], "per_second")[0]
            times = [spread(own, field)[0] for field in ("p50_us", "p99_us", "cpu_us")]
            print(f"  {label:<15}{ours:>30}{floor:>30}{ratio:>13.2f}{times[0]:>9.0f}{times[1]:>9.0f}{times[2]:>8.1f}")
    both = samples["connect 1"]
    print("\nconnect, read, close, one after the other: median (min to max) of the median time in µs")
    for name in ("daemon", "echo"):
        middle, least, most = spread(both[name], "p50_us")
        print(f"  {name:<12}{f'{middle:.0f} ({least:.0f} to {most:.0f})':>30}")


def _rate(samples: list[Sample]) -> str:
    middle, least, most = spread(samples, "per_second")
    return f"{middle:,.0f} ({least:,.0f} to {most:,.0f})"


def choose_settings(quick: bool) -> Settings:
    """Two processors if this process may use two; with one, server and generator share it."""
    usable = sorted(os.sched_getaffinity(0))
    server, load = (usable[0], usable[1]) if len(usable) > 1 else (None, None)
    if quick:
        return Settings(rounds=1, seconds=0.5, warmup=0.2, server_cpu=server, load_cpu=load)
    return Settings(rounds=5, seconds=1.5, warmup=0.3, server_cpu=server, load_cpu=load)


def main() -> int:
    """Measure, print, and write build/bench.json."""
    parser = argparse.ArgumentParser(description="Measure the daemon beside a bare echo of the same bytes.")
    parser.add_argument("--quick", action="store_true", help="one short round: does it run, not how fast")
    settings = choose_settings(parser.parse_args().quick)
    world = World()
    try:
        bench = Bench(world, settings)
        daemon = bench.start_daemon()
        bench.fill_memory(daemon)
        samples = run(bench, daemon, bench.start_echo())
        bench.memory["rss_at_the_end"] = daemon.process.rss()
    finally:
        world.close()
    about = machine(settings)
    print_table(about, samples)
    print("\nresident memory of the daemon")
    for name, size in bench.memory.items():
        print(f"  {name:<20}{size / 2**20:>8.1f} MiB")
    plain = {
        case: {name: [asdict(one) for one in many] for name, many in both.items()} for case, both in samples.items()
    }
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    with open(os.path.join(ROOT, "build", "bench.json"), "w", encoding="utf-8") as file:
        json.dump({"machine": about, "memory_bytes": bench.memory, "samples": plain}, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
