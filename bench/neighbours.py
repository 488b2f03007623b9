"""One client that reads now and then a secret, while another reads all 10,000 at once, again and again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lab import Lab, Sample, pinned, prefix_read
from report import Row, number, ratios

_LONGER = 1.0  # seconds that the neighbour goes on, at most


def measure(lab: Lab) -> Iterator[Row]:
    """p99 of the one, alone and beside the other. The other gives way on the processor that both run on."""
    alone, beside = lab.rounds(partial(lab.measure, lab.daemon, "steady", 1), partial(_beside, lab))
    middle = [number(Row("", [sample.p99_us for sample in samples]).figure) for samples in (beside, alone)]
    yield Row(
        "p99 beside prefix reads of 10,000, of p99 alone",
        ratios([sample.p99_us for sample in beside], [sample.p99_us for sample in alone]), "x", 3.0,
        beside=f"p99 {middle[0]} µs, alone {middle[1]} µs",
    )  # fmt: skip


def _beside(lab: Lab) -> Sample:
    seconds = lab.settings.seconds + lab.settings.warmup + _LONGER
    greedy = lab.words("steady", lab.daemon, lab.request(prefix_read("proj_")), 1, seconds)
    with pinned(lab.settings.load_cpu):
        neighbour = lab.world.spawn(["/usr/bin/nice", "-n", "19", *greedy])
    try:
        return lab.measure(lab.daemon, "steady", 1)
    finally:
        neighbour.close()
