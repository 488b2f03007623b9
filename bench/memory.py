"""Resident memory of the daemon: empty, for each idle connection, for 10,000 secrets."""

from __future__ import annotations

from collections.abc import Iterator

from lab import FOUND, READ, Lab
from report import Row

_MIB, _KIB = 2**20, 2**10
_PROCESSES, _EACH = 4, 64


def measure(lab: Lab) -> Iterator[Row]:
    """256 connections that have read once and are silent since, from four processes."""
    lab.restart()
    lab.ask(READ)
    before = lab.daemon.process.rss()
    request = lab.request(READ)
    holders = []
    try:
        for _ in range(_PROCESSES):
            holder = lab.world.spawn([lab.load, "hold", lab.daemon.socket, request, FOUND, str(_EACH), "0", "0"])
            holder.out.find(lambda line: line.startswith(b"holding"))
            holders.append(holder)
        held = lab.daemon.process.rss()
    finally:
        for holder in holders:
            holder.close()
    yield Row("memory: idle, nothing stored", [lab.idle_rss / _MIB], "MiB", 40)
    yield Row("memory: an idle connection", [(held - before) / (_PROCESSES * _EACH) / _KIB], "KiB", 20)
    yield Row("memory: 10,000 secrets", [(lab.filled_rss - lab.idle_rss) / _MIB], "MiB", 8)
