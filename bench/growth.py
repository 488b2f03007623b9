"""What it costs that more is stored: 100, 10,000 and 100,000 secrets, each size a daemon of its own, in turns.

Reads and writes go through the daemon, as a registered program makes them; the load generator repeats one request, so
its batches find their values there already, and keep no earlier ones. Unlocking, and batches in which every value is
new and the replaced one becomes an earlier one, are measured on a copy of the vault's files without a daemon.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from lab import ROOT, SERVICE, VALUE, Lab, Sample, World, name
from report import Row, number, ratios

from keychain_auth.keychain.vault import open_vault
from keychain_auth.protectors.keyfile import KeyFile

SIZES = (100, 10_000, 100_000)
_BATCH = 100
_BATCH_GOAL = 5.0  # ms, at 10,000
_READ_GOAL = 1.3  # times the time at 100


def measure(lab: Lab) -> Iterator[Row]:
    """Rows for every size, the smaller first."""
    worlds = [World() for size in SIZES if size != lab.stored]
    try:
        others = iter(worlds)
        labs = [lab if size == lab.stored else Lab(next(others), lab.settings, size) for size in SIZES]
        yield from _requests(labs)
        alone = [_alone(each) for each in labs]
        for each, taken in zip(labs, alone, strict=True):
            yield Row(f"unlock of {each.stored:,}, vault alone", taken.unlocks, "ms")
        for each, taken in zip(labs, alone, strict=True):
            goal = _BATCH_GOAL if each.stored == 10_000 else None
            yield Row(f"100 values replaced among {each.stored:,}, vault alone", taken.batches, "ms", goal)
    finally:
        for world in worlds:
            world.close()


def _requests(labs: list[Lab]) -> Iterator[Row]:
    kinds = {
        "exact read": {each.stored: {"action": "read", "targets": [name(each.stored // 2)]} for each in labs},
        "exact read of 100 scattered": {
            each.stored: {"action": "read", "targets": [name(at) for at in _scattered(each)]} for each in labs
        },
        "prefix read of 100": {
            each.stored: {"action": "read", "match": "prefix", "targets": ["proj_0:env_0:"]} for each in labs
        },
        "durable write of 1": {each.stored: _write([each.stored // 2]) for each in labs},
        "durable write of 100 scattered": {each.stored: _write(_scattered(each)) for each in labs},
    }
    for what, requests in kinds.items():
        mode = "steady" if "write" in what else labs[0].busy
        asks = [partial(each.measure, each.daemon, mode, 1, requests[each.stored]) for each in labs]
        results = labs[0].rounds(*asks)
        for each, samples in zip(labs, results, strict=True):
            p50 = [sample.p50_us / 1000 for sample in samples]
            goal = _BATCH_GOAL if "100 scattered" in what and "write" in what and each.stored == 10_000 else None
            yield Row(f"{what} among {each.stored:,}: p50", p50, "ms", goal)
        if what.startswith("exact"):
            small, large = results[0], results[-1]
            beside = f"p50 {number(_p50(large))} and {number(_p50(small))} µs"
            goal = _READ_GOAL if what == "exact read" else None
            times = ratios([one.p50_us for one in large], [one.p50_us for one in small])
            yield Row(f"{what} among 100,000, of one among 100", times, "x", goal, beside=beside)


def _p50(samples: list[Sample]) -> float:
    return Row("", [sample.p50_us for sample in samples]).figure


def _scattered(lab: Lab) -> list[int]:
    step = lab.stored // _BATCH
    return [at * step for at in range(_BATCH)]


def _write(numbers: list[int]) -> dict[str, object]:
    return {
        "action": "write",
        "targets": [name(at) for at in numbers],
        "values": [VALUE.format(at + 1) for at in numbers],
    }


class Alone(NamedTuple):
    """Milliseconds, of the vault without a daemon."""

    unlocks: list[float]
    batches: list[float]


def _alone(lab: Lab) -> Alone:
    """On a copy of the files, on the disk of this checkout: unlocking, and batches that replace every value."""
    build = os.path.join(ROOT, "build")
    os.makedirs(build, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="growth-", dir=build)
    lab.daemon.process.signal(signal.SIGTERM)
    lab.daemon.process.wait()
    taken = Alone([], [])
    try:
        for file in ("vault.db", "vault.key"):
            shutil.copyfile(os.path.join(lab.world.data_dir, file), os.path.join(folder, file))
            os.chmod(os.path.join(folder, file), 0o600)
        with asyncio.Runner() as runner:
            for turn in range(max(3, lab.settings.rounds)):
                began = time.perf_counter()
                vault = open_vault(folder, [KeyFile(os.path.join(folder, "vault.key"))])
                taken.unlocks.append((time.perf_counter() - began) * 1000)
                for again in range(10):
                    entries = [(name(at), VALUE.format(100 * turn + again)) for at in _scattered(lab)]
                    began = time.perf_counter()
                    runner.run(vault.write(SERVICE, entries, {}, "/usr/bin/program"))
                    taken.batches.append((time.perf_counter() - began) * 1000)
                runner.run(vault.close())
    finally:
        shutil.rmtree(folder)
        lab.restart()
    return taken
