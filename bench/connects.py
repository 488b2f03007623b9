"""Connect, be verified, read, close: a small and a large program, beside the echo's connect and close."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial

from lab import READ, Lab, source
from report import Row, number

_MEGABYTES = (2, 200)
_SETTLED = 2.5  # seconds: a file that changed a moment ago may change again unseen, so its hash is not remembered


def measure(lab: Lab) -> Iterator[Row]:
    """The same program in both sizes: what stands behind an ELF file's sections is not loaded, but it is hashed."""
    programs, asking = [], lab.request(READ)
    for megabytes in _MEGABYTES:
        program = lab.world.build_client(f"load-{megabytes}", source=source("load.c"))
        os.truncate(program, megabytes * 1_000_000)
        lab.register(program)
        programs.append(program)
    _grow_old(programs[-1])
    for program in programs:  # the first connection of each waits for its hash
        lab.run([program, "ask", lab.daemon.socket, asking])
    *ours, floor = lab.rounds(
        *(partial(lab.measure, lab.daemon, "connect", 1, program=program) for program in programs),
        partial(lab.measure, lab.echo, "connect", 1),
    )
    for megabytes, samples in zip(_MEGABYTES, ours, strict=True):
        more = [mine.p50_us - its.p50_us for mine, its in zip(samples, floor, strict=True)]
        p50 = number(Row("", [sample.p50_us for sample in samples]).figure)
        least = number(Row("", [sample.p50_us for sample in floor]).figure)
        yield Row(
            f"connect, verify, read, close ({megabytes} MB program): more than echo", [each / 1000 for each in more],
            "ms", 0.30, beside=f"p50 {p50} µs, echo {least} µs",
        )  # fmt: skip


def _grow_old(program: str) -> None:
    time.sleep(max(0.0, os.stat(program).st_ctime + _SETTLED - time.time()))
