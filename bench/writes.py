"""Durable writes through the daemon, beside one fsync of 4 KiB on the same disk.

An fsync is measured in two ways. ``in place`` writes the same block again and again: nothing but data reaches the disk;
this is what the goal means. ``grown`` appends, as a log does: the file's size changes, so its file system commits a
transaction of its own. Two sets of values take turns in the daemon, so each write changes what it writes to, and what
it replaces becomes an earlier value.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

from lab import VALUE, Lab, Sample, World, name
from report import Row, number, ratios

_LARGE = 100_000
_FSYNCS = 100
_BLOCK = 4096
_GOALS = {1: 2.0, 100: 8.0}
_WRITERS = 64


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
        bare = [partial(_bare, lab, many) for many in _GOALS]
        at_once = partial(
            lab.measure, lab.daemon, "steady", _WRITERS, *(_write(lab, 1, turn, turn) for turn in range(64))
        )
        in_place, grown, *taken = lab.rounds(
            partial(_fsync, lab, False), partial(_fsync, lab, True), at_once, *bare, *writes
        )  # fmt: skip
        base = [sample.p50_us for sample in in_place]
        least = f"fsync in place {number(statistics.median(base))} µs, grown {_p50(grown)} µs"
        for many, samples in zip(_GOALS, taken[1:], strict=False):
            yield Row(
                f"bare sqlite3, {many} in a transaction, of one fsync of 4 KiB",
                ratios([sample.p50_us for sample in samples], base), "x", beside=f"p50 {_p50(samples)} µs, {least}",
            )  # fmt: skip
        for (each, many), samples in zip(cases, taken[1 + len(_GOALS) :], strict=True):
            mean = number(statistics.median(1e6 / sample.per_second for sample in samples))
            yield Row(
                f"durable write of {many} among {each.stored:,}, of one fsync of 4 KiB",
                ratios([sample.p50_us for sample in samples], base), "x", _GOALS[many],
                beside=f"p50 {_p50(samples)} µs, mean {mean}, p99 {_median(samples, 'p99_us')}, {least}; "
                f"daemon's CPU {_median(samples, 'cpu_us')} µs",
            )  # fmt: skip
        yield Row(
            f"{_WRITERS} writers at once: writes for each fsync of 4 KiB",
            [sample.per_second * one / 1e6 for sample, one in zip(taken[0], base, strict=True)], "x",
            beside=f"{_median(taken[0], 'per_second')} writes/s, p50 {_p50(taken[0])} µs, "
            f"p99 {_median(taken[0], 'p99_us')}; fsyncs/s {number(1e6 / statistics.median(base))}",
        )  # fmt: skip
    finally:
        world.close()


def _write(lab: Lab, many: int, turn: int, offset: int = 0) -> dict[str, object]:
    first = lab.stored * 7 // 10 + offset
    numbers = range(first, first + many)
    return {
        "action": "write",
        "targets": [name(number) for number in numbers],
        "values": [VALUE.format(number + turn) for number in numbers],
    }


def _fsync(lab: Lab, growing: bool) -> Sample:
    path, block = lab.world.write("fsync", bytes(_BLOCK)), os.urandom(_BLOCK)
    fd = os.open(path, os.O_WRONLY)

    def once(turn: int) -> None:
        os.pwrite(fd, block, _BLOCK * (turn + 1) if growing else 0)
        os.fsync(fd)

    try:
        return _timed(once)
    finally:
        os.close(fd)


def _bare(lab: Lab, many: int) -> Sample:
    """One table, its rows replaced in turn; the log has its length already, as in a daemon that has run for a while."""
    names = [name(number) for number in range(many)]
    with closing(sqlite3.connect(lab.world.path("bare.db"), isolation_level=None)) as db:
        for statement in ("journal_mode = WAL", "synchronous = FULL"):
            db.execute(f"PRAGMA {statement}")
        db.execute("CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value TEXT)")

        def once(turn: int) -> None:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("REPLACE INTO secrets VALUES (?, ?)", [(each, VALUE.format(turn)) for each in names])
            db.execute("COMMIT")

        for turn in range(_FSYNCS if many > 1 else 10 * _FSYNCS):  # more pages than SQLite lets a log have
            once(turn)
        return _timed(once)


def _timed(once: Callable[[int], None]) -> Sample:
    taken = []
    for turn in range(_FSYNCS):
        began = time.perf_counter()
        once(turn)
        taken.append((time.perf_counter() - began) * 1e6)
    taken.sort()
    return Sample(1e6 / statistics.mean(taken), statistics.median(taken), taken[_FSYNCS * 99 // 100], 0.0)


def _p50(samples: list[Sample]) -> str:
    return _median(samples, "p50_us")


def _median(samples: list[Sample], field: str) -> str:
    return number(statistics.median(getattr(sample, field) for sample in samples))
