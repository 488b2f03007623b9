"""Prefix reads of 10, 100 and 1,000 secrets among 10,000, end to end."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lab import Lab, prefix_read
from report import Row, number

_CASES = ((10, "proj_4:env_2:app_7:", 0.10), (100, "proj_4:env_2:", 0.25), (1000, "proj_4:", 1.5))


def measure(lab: Lab) -> Iterator[Row]:
    """p50 in milliseconds: from the request's first byte to the answer's last."""
    measurements = [partial(lab.measure, lab.daemon, lab.busy, 1, prefix_read(prefix)) for _, prefix, _ in _CASES]
    for (count, _, goal), samples in zip(_CASES, lab.rounds(*measurements), strict=True):
        cpu = number(Row("", [sample.cpu_us for sample in samples]).figure)
        p50 = [sample.p50_us / 1000 for sample in samples]
        yield Row(f"prefix read of {count:,} among 10,000: p50", p50, "ms", goal, beside=f"daemon's CPU {cpu} µs")
