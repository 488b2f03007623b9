"""How long one client waits while others keep the daemon busy: p99 beside them, of p99 alone.

The others give way (nice 19) on the processor that they share with the client, so that what is measured is the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from lab import VALUE, Lab, Sample, name, pinned, prefix_read, source
from report import Row, number, ratios

_LONGER = 1.0  # seconds that a neighbour goes on, at most
_GOAL = 3.0
_PROCESSES, _EACH = 4, 16
_WRITTEN = [name(number) for number in range(7000, 7100)]


def prefix_reads(lab: Lab) -> Iterator[Row]:
    """Another registered client that reads all 10,000 at once, again and again."""
    seconds = lab.settings.seconds + lab.settings.warmup + _LONGER
    greedy = lab.words("steady", lab.daemon, lab.request(prefix_read("proj_")), 1, seconds)
    yield _row(lab, "prefix reads of 10,000", partial(_neighbour, lab, greedy))


def writes(lab: Lab) -> Iterator[Row]:
    """Another registered client that writes 100 values at once, again and again; their rows are made meanwhile."""
    seconds = lab.settings.seconds + lab.settings.warmup + _LONGER
    batches = [{"action": "write", "targets": _WRITTEN, "values": [VALUE.format(turn)] * 100} for turn in range(2)]
    writer = lab.words("steady", lab.daemon, lab.request(*batches), 1, seconds)
    yield _row(lab, "batches of 100 written", partial(_neighbour, lab, writer))


def refused(lab: Lab) -> Iterator[Row]:
    """64 connections of programs that are not registered: each is refused, and connects again at once."""
    crowd = lab.world.build_client("crowd", source=source("crowd.c"))
    words = [crowd, "asking", lab.daemon.socket, str(_PROCESSES), str(_EACH)]
    yield _row(lab, "64 strangers that are refused", partial(_neighbour, lab, words, b"ready"))


def _row(lab: Lab, whom: str, neighbour: Callable[[], AbstractContextManager[None]]) -> Row:
    def beside() -> Sample:
        with neighbour():
            return lab.measure(lab.daemon, "steady", 1)

    alone, disturbed = lab.rounds(partial(lab.measure, lab.daemon, "steady", 1), beside)
    middle = [number(Row("", [sample.p99_us for sample in samples]).figure) for samples in (disturbed, alone)]
    p50 = number(Row("", [sample.p50_us for sample in disturbed]).figure)
    return Row(
        f"p99 beside {whom}, of p99 alone",
        ratios([sample.p99_us for sample in disturbed], [sample.p99_us for sample in alone]), "x", _GOAL,
        beside=f"p99 {middle[0]} µs, alone {middle[1]} µs; p50 {p50} µs",
    )  # fmt: skip


@contextmanager
def _neighbour(lab: Lab, words: list[str], ready: bytes = b"") -> Iterator[None]:
    with pinned(lab.settings.load_cpu):
        neighbour = lab.world.spawn(["/usr/bin/nice", "-n", "19", *words])
    try:
        if ready:
            neighbour.out.find(lambda line: line == ready)
        yield
    finally:
        neighbour.close()
