"""Durable writes through the daemon, beside one fsync of 4 KiB on the same disk.

An fsync is measured in two ways. ``in place`` writes the same block again and again: nothing but data reaches the disk;
this is what the goal means. ``grown`` appends, as a log does: the file's size changes, so its file system commits a
transaction of its own. Two sets of values take turns in the daemon, so each write changes what it writes to, and what
it replaces becomes an earlier value.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from functools import partial

from lab import VALUE, Lab, Sample, World, name
from report import Row, number, ratios

_LARGE = 100_000
_FSYNCS = 100
_BLOCK = 4096
_GOALS = {1: 2.0, 100: 8.0}


def measure(lab: Lab) -> Iterator[Row]:
    """One, and a batch of 100, each among 10,000 and 100,000."""
    world = World()
    try:
        large = Lab(world, lab.settings, _LARGE)
        cases = [(each, many) for each in (lab, large) for many in _GOALS]
        writes = [
            partial(each.measure, each.daemon, "steady", 1, _write(each, many, 0), _write(each, many, 1))
            for each, many in cases
        ]
        in_place, grown, *taken = lab.rounds(partial(_fsync, lab, False), partial(_fsync, lab, True), *writes)
        base = [sample.p50_us for sample in in_place]
        least = f"fsync in place {number(statistics.median(base))} µs, grown {_p50(grown)} µs"
        for (each, many), samples in zip(cases, taken, strict=True):
            yield Row(
                f"durable write of {many} among {each.stored:,}, of one fsync of 4 KiB",
                ratios([sample.p50_us for sample in samples], base), "x", _GOALS[many],
                beside=f"p50 {_p50(samples)} µs, {least}; daemon's CPU {_median(samples, 'cpu_us')} µs",
            )  # fmt: skip
    finally:
        world.close()


def _write(lab: Lab, many: int, turn: int) -> dict[str, object]:
    numbers = range(lab.stored * 7 // 10, lab.stored * 7 // 10 + many)
    return {
        "action": "write",
        "targets": [name(number) for number in numbers],
        "values": [VALUE.format(number + turn) for number in numbers],
    }


def _fsync(lab: Lab, growing: bool) -> Sample:
    path, block = lab.world.write("fsync", bytes(_BLOCK)), os.urandom(_BLOCK)
    fd = os.open(path, os.O_WRONLY)
    taken = []
    try:
        for turn in range(_FSYNCS):
            began = time.perf_counter()
            os.pwrite(fd, block, _BLOCK * (turn + 1) if growing else 0)
            os.fsync(fd)
            taken.append((time.perf_counter() - began) * 1e6)
    finally:
        os.close(fd)
    taken.sort()
    return Sample(1e6 / statistics.mean(taken), statistics.median(taken), taken[_FSYNCS * 99 // 100], 0.0)


def _p50(samples: list[Sample]) -> str:
    return _median(samples, "p50_us")


def _median(samples: list[Sample], field: str) -> str:
    return number(statistics.median(getattr(sample, field) for sample in samples))
