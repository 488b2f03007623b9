"""Durable writes through the daemon, beside one fsync of 4 KiB on the same disk."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from functools import partial

from lab import VALUE, Lab, Sample, name
from report import Row, number, ratios

_FSYNCS = 100
_BLOCK = 4096


def measure(lab: Lab) -> Iterator[Row]:
    """10,000 are stored; the writes replace some of them. How it grows with the store is another part's affair."""
    path = lab.world.write("fsync", bytes(_BLOCK))
    single, batch, floor = lab.rounds(
        partial(lab.measure, lab.daemon, "steady", 1, _write(1)),
        partial(lab.measure, lab.daemon, "steady", 1, _write(100)),
        partial(_fsync, path),
    )
    base = [sample.p50_us for sample in floor]
    for what, samples, goal in (("write of 1", single, 2.0), ("write of 100 in one request", batch, 8.0)):
        p50 = [sample.p50_us for sample in samples]
        beside = f"p50 {number(statistics.median(p50))} µs, fsync {number(statistics.median(base))} µs"
        yield Row(f"durable {what}, of one fsync of 4 KiB", ratios(p50, base), "x", goal, beside=beside)


def _write(many: int) -> dict[str, object]:
    numbers = range(7000, 7000 + many)
    return {
        "action": "write",
        "targets": [name(number) for number in numbers],
        "values": [VALUE.format(number) for number in numbers],
    }


def _fsync(path: str) -> Sample:
    """The same block in place, as cheap as durability gets."""
    block = os.urandom(_BLOCK)
    fd = os.open(path, os.O_WRONLY)
    taken = []
    try:
        for _ in range(_FSYNCS):
            began = time.perf_counter()
            os.pwrite(fd, block, 0)
            os.fsync(fd)
            taken.append((time.perf_counter() - began) * 1e6)
    finally:
        os.close(fd)
    taken.sort()
    return Sample(1e6 / statistics.mean(taken), statistics.median(taken), taken[_FSYNCS * 99 // 100], 0.0)
