"""Mixed load under bad weather, every answer checked against a model: run.py [--minutes N] [--seed N]

Four writers, two watchers and a stranger keep a real daemon busy, while it is killed, restarted, its disk filled, its
policy edited, its clients killed. At the end everything that was acknowledged must be there, the vault and the audit
log must be in order. Prints figures, writes build/soak.json; exit code 1 if anything was lost or wrong.

As root the daemon's data lies on a small tmpfs, so that a disk can be full. Otherwise that part is left out, and said.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))

from soak.weather import Weather  # noqa: E402
from soak.workers import Stranger, Watcher, Worker, Writer  # noqa: E402
from support.world import World  # noqa: E402

WRITERS, WATCHERS = 4, 2
_SETTINGS = "[audit]\nmax_bytes = 1000000\nkeep = 6\n[history]\nvalues = 2\n"


def main() -> int:
    """Run, print, say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(description="Load, deaths, a full disk, and a model.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    print(f"soak: {asked.minutes:g} minutes, seed {asked.seed}", flush=True)
    world = World()
    disk = small_disk(world)
    try:
        figures, problems = soak(world, disk, asked.minutes * 60, asked.seed)
    finally:
        world.close()
        if disk:
            subprocess.run(["umount", "--lazy", disk], check=True)
    figures = {"minutes": asked.minutes, "seed": asked.seed, **figures, "lost": len(problems)}
    for name, number in figures.items():
        print(f"  {name:<28}{number:>12,}")
    if not disk:
        print("  no full disk: only root can mount a small filesystem")
    for problem in problems:
        print(f"WRONG: {problem}")
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    with open(os.path.join(ROOT, "build", "soak.json"), "w", encoding="utf-8") as file:
        json.dump(figures, file, indent=2)
    return 1 if problems else 0


def small_disk(world: World) -> str:
    """A filesystem of 32 MiB where the daemon keeps its data; empty if that cannot be."""
    folder = world.path(".local/share")
    if os.geteuid() != 0:
        return ""
    options = f"size=32m,mode=700,uid={world.user.uid},gid={world.user.gid}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    return folder if done.returncode == 0 else ""


def soak(world: World, disk: str, seconds: float, seed: int) -> tuple[dict[str, float], list[str]]:
    """The figures, and what was wrong."""
    world.write_settings(_SETTINGS)
    weather = Weather(world, disk, seed)
    services = [f"service-{number}" for number in range(WRITERS)]
    workers: list[Worker] = []
    for number, service in enumerate(services):
        program = world.granted(f"writer-{number}", service, variant=f"writer-{number}")
        workers.append(Writer(world, weather, number, program, seed))
    for number in range(WATCHERS):
        program = world.build_client(f"watcher-{number}", f"watcher-{number}")
        world.allow(program, services, [], True)
        workers.append(Watcher(services, world, weather, number, program, seed))
    workers.append(Stranger(world, weather, 0, world.build_client("stranger", "stranger"), seed))
    problems: list[str] = []
    began = time.monotonic()
    weather.begin()
    for worker in workers:
        worker.start()
    try:
        weather.run(seconds, [worker.client for worker in workers])
    except BaseException as problem:  # noqa: BLE001 - told with all others
        problems.append(_told("the weather", problem))
    for worker in workers:
        worker.join(120)
        if worker.is_alive():
            problems.append(f"{worker.name} hangs")
        if worker.failure is not None:
            problems.append(_told(worker.name, worker.failure))
    lasted = time.monotonic() - began
    if not problems:
        problems += last_look(world, weather, workers)
    return _figures(weather, workers, lasted), problems


def last_look(world: World, weather: Weather, workers: Sequence[Worker]) -> list[str]:
    """After a last kill: what each writer was told is there, and vault and audit log are in order."""
    problems: list[str] = []
    daemon = weather.end()
    for worker in workers:
        if isinstance(worker, Writer):
            try:
                weather.over = False
                worker.meet()
            except BaseException as problem:  # noqa: BLE001 - told with all others
                problems.append(_told(f"the last look of {worker.name}", problem))
            finally:
                weather.over = True
                worker.client.close()
    for words in (("vault", "check"), ("audit", "verify"), ("status",)):
        done = world.cli(*words, timeout=300)
        if done.returncode != 0:
            problems.append(f"keychain-auth {' '.join(words)}: {done.stderr}")
    if daemon.stop() != 0:
        problems.append("the daemon did not end in order")
    return problems


def _figures(weather: Weather, workers: Sequence[Worker], seconds: float) -> dict[str, float]:
    total: Counter[str] = Counter()
    for worker in workers:
        total.update(worker.counts)
    writers = [worker for worker in workers if isinstance(worker, Writer)]
    return {
        "seconds": round(seconds),
        **dict(sorted(total.items())),
        **dict(sorted(weather.counts.items())),
        "starts of the daemon": weather.lives,
        "slowest start, ms": round(weather.slowest_start * 1000),
        "unanswered changes resolved": sum(writer.model.resolved for writer in writers),
        "failed changes that came after all": sum(writer.model.ghosts for writer in writers),
    }


def _told(who: str, problem: BaseException) -> str:
    place = "".join(traceback.format_exception(problem)[-4:])
    return f"{who}: {type(problem).__name__}: {problem}\n{place}"


if __name__ == "__main__":
    sys.exit(main())
