"""What the checks at accept cost: each rule alone, and a connection beside one to a daemon that checks nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import partial

from lab import READ, Lab, Server, World, copied, pinned, source
from report import Row, number

from support.daemon import Daemon

_CALLS = 1000  # of each rule in a round
_GOAL_MS = 0.4


def measure(lab: Lab) -> Iterator[Row]:
    """The connection first, then what it is made of."""
    with unchecked(lab) as (server, program):
        ours, without, floor = lab.rounds(
            partial(lab.measure, lab.daemon, "connect", 1),
            partial(lab.measure, server, "connect", 1, program=program),
            partial(lab.measure, lab.echo, "connect", 1),
        )
    more = [(mine.p50_us - its.p50_us) / 1000 for mine, its in zip(ours, without, strict=True)]
    p50s = [number(Row("", [sample.p50_us for sample in samples]).figure) for samples in (ours, without, floor)]
    beside = "p50 {} µs, without any check {} µs, echo {} µs".format(*p50s)
    yield Row("connect, verify, read, close: more than without the checks", more, "ms", _GOAL_MS, beside=beside)
    used = [mine.cpu_us - its.cpu_us for mine, its in zip(ours, without, strict=True)]
    yield Row("  the same in processor time of the daemon", used, "µs")
    for rule, figures in rules(lab).items():
        yield Row(f"  {rule}", figures, "µs", beside="processor time")


def rules(lab: Lab) -> dict[str, list[float]]:
    """Rule to microseconds a call, a figure for each round."""
    program = lab.world.build_client()
    words = [
        lab.world.python, copied(lab.world, "rules.py"), lab.world.path("run/rules/agent.sock"),
        str(lab.settings.rounds), str(_CALLS if lab.settings.rounds > 1 else _CALLS // 10), program,
    ]  # fmt: skip
    lab.world.write("run/rules/is-here", "")
    found: dict[str, list[float]] = json.loads(lab.run(words))
    return found


@contextlib.contextmanager
def unchecked(lab: Lab) -> Iterator[tuple[Server, str]]:
    """A daemon that checks nothing, with one secret, and the load generator that is its only program."""
    world = World()
    try:
        program = world.build_client("load", source=source("load.c"))
        world.allow(program, ["bench"], ["bench"], True)
        words = [world.python, copied(world, "unchecked.py"), "start", "--socket", world.socket]
        with pinned(lab.settings.server_cpu):
            daemon = Daemon(words, world.environment(), world.user, world.socket)
        try:
            daemon.wait_ready()
            write = {"action": "write", "targets": READ["targets"], "values": ["postgres://app@db.example/app"]}
            lab.run([program, "ask", world.socket, lab.request(write)])
            yield Server(world.socket, daemon), program
        finally:
            daemon.stop()
            daemon.close()
    finally:
        world.close()
