"""Exact reads on kept connections, beside the echo; and ten targets in one read, beside ten reads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lab import READ, Lab, Sample, Server, name
from report import Row, number, ratios

TEN = {"action": "read", "targets": [name(4270 + number) for number in range(10)]}


def kept(lab: Lab) -> Iterator[Row]:
    """Kept connections, in turns with the echo, and with a server in Python that does nothing (``bare.py``)."""
    python = lab.start_bare(lab.ask(READ))
    for connections in (8, 64):
        ours, floor, bare = _in_turns(lab, lab.busy, connections, lab.daemon, lab.echo, python)
        yield Row(
            f"exact reads, {connections} connections: requests/s of the echo's",
            ratios(_all(ours, "per_second"), _all(floor, "per_second")),
            goal=0.33, at_least=True, beside=f"{_median(ours, 'per_second')}/s of {_median(floor, 'per_second')}/s",
        )  # fmt: skip
        yield Row(
            f"exact reads, {connections} connections: daemon's CPU a request", _all(ours, "cpu_us"), "µs", 9.0,
            beside=f"echo {_median(floor, 'cpu_us')} µs; p50 {_median(ours, 'p50_us')}, p99 {_median(ours, 'p99_us')}",
        )  # fmt: skip
        yield Row(
            "  a server in Python that only receives and sends: of the echo's",
            ratios(_all(bare, "per_second"), _all(floor, "per_second")),
            beside=f"{_median(bare, 'per_second')}/s, {_median(bare, 'cpu_us')} µs of CPU a request",
        )


def one(lab: Lab) -> Iterator[Row]:
    """One connection, one request after the other, in turns with the echo."""
    for mode in dict.fromkeys((lab.busy, "steady")):
        ours, floor = _in_turns(lab, mode, 1, lab.daemon, lab.echo)
        client = "sleeps" if mode == "steady" else "never sleeps"
        yield Row(
            f"one connection, in turn, p50 of the echo's; client {client}",
            ratios(_all(ours, "p50_us"), _all(floor, "p50_us")), "x", 1.2,
            beside=f"{_median(ours, 'p50_us')} µs, echo {_median(floor, 'p50_us')} µs",
        )  # fmt: skip


def _in_turns(lab: Lab, mode: str, connections: int, *servers: Server) -> list[list[Sample]]:
    return lab.rounds(*(partial(lab.measure, server, mode, connections) for server in servers))


def ten(lab: Lab) -> Iterator[Row]:
    """Ten targets in one read, in turns with one target."""
    for what, connections, field in (("time saved", 1, "p50_us"), ("CPU saved", 8, "cpu_us")):
        one, ten = lab.rounds(*(partial(lab.measure, lab.daemon, lab.busy, connections, of) for of in (READ, TEN)))
        yield Row(
            f"10 targets in one read beside 10 reads: {what}",
            [10 * ratio for ratio in ratios(_all(one, field), _all(ten, field))], "x", 6.0, at_least=True,
            beside=f"{_median(ten, field)} µs, one read {_median(one, field)} µs",
        )  # fmt: skip


def _all(samples: list[Sample], field: str) -> list[float]:
    return [getattr(sample, field) for sample in samples]


def _median(samples: list[Sample], field: str) -> str:
    return number(Row("", _all(samples, field)).figure)
