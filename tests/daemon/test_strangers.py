"""A process that was refused a moment ago is refused cheaply, but only as long as it is the same program."""

from __future__ import annotations

import asyncio
from typing import Any

from daemon.requests import PENDING, denied, read, results
from keychain_auth.daemon.requests.strangers import Strangers
from keychain_auth.model import Denial
from support.world import World

DENIAL = Denial(PENDING, "path", "/usr/bin/evil", "no entry for this path")
CALLER: Any = object()


class Peer:
    """A process that still runs the same exec, or does not."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.same: bool | None = True
        self.closed = False

    def runs_same_exec(self) -> bool | None:
        return self.same

    def close(self) -> None:
        self.closed = True


def test_only_the_same_exec_under_the_same_policy_is_remembered() -> None:
    async def look() -> None:
        strangers = Strangers(seconds=60)
        peer: Any = Peer(7)
        strangers.remember(peer, CALLER, DENIAL, generation=1)
        known = strangers.recall(7, generation=1)
        assert known is not None
        assert (known.caller, known.denial) == (CALLER, DENIAL)
        assert strangers.recall(8, generation=1) is None
        assert strangers.recall(7, generation=2) is None
        for changed in (False, None):  # it became another program, it ended
            peer.same = changed
            assert strangers.recall(7, generation=1) is None
        strangers.close()
        assert peer.closed

    asyncio.run(look())


def test_it_is_forgotten_soon_and_lets_go_of_the_process() -> None:
    async def look() -> None:
        strangers = Strangers(seconds=0.01)
        peers: list[Any] = [Peer(number) for number in range(3)]
        for peer in peers:
            strangers.remember(peer, CALLER, DENIAL, generation=1)
        async with asyncio.timeout(60):
            while not all(peer.closed for peer in peers):
                await asyncio.sleep(0.001)
        assert strangers.recall(0, generation=1) is None

    asyncio.run(look())


def test_whoever_was_refused_may_wait_for_a_second() -> None:
    async def look() -> None:
        strangers = Strangers(seconds=0.01)
        strangers.refused(7)
        assert 7 in strangers
        assert 8 not in strangers
        async with asyncio.timeout(60):
            while 7 in strangers:
                await asyncio.sleep(0.001)

    asyncio.run(look())


def test_only_the_last_few_are_held() -> None:
    async def look() -> None:
        strangers = Strangers(seconds=60)
        peers: list[Any] = [Peer(number) for number in range(300)]
        for peer in peers:
            strangers.remember(peer, CALLER, DENIAL, generation=1)
        assert [peer.closed for peer in peers] == [True] * 44 + [False] * 256
        again: Any = Peer(299)
        strangers.remember(again, CALLER, DENIAL, generation=1)
        assert peers[299].closed
        strangers.close()

    asyncio.run(look())


def test_a_stranger_that_becomes_a_registered_program_is_served_at_once(world: World) -> None:
    program = world.granted("talker", "aws")
    world.start()
    process = world.talker(world.build_client("wrapper", "other"))
    for _ in range(3):
        assert process.ask(read("a")) == denied(PENDING)
        process.reconnect()
    process.feed(f"!exec {program}\n".encode())
    process.event(lambda text: text.startswith("failed no such descriptor"))
    process.reconnect()
    assert process.ask(read("a")) == results()


def test_a_stranger_that_is_registered_is_served_at_once(world: World) -> None:
    world.start()
    program = world.build_client("talker")
    process = world.talker(program)
    for _ in range(3):
        assert process.ask(read("a")) == denied(PENDING)
        process.reconnect()
    world.allow(program, ["aws"])
    process.reconnect()
    assert process.ask(read("a")) == results()


def test_a_stranger_that_was_taken_out_of_the_queue_is_queued_again(world: World) -> None:
    world.start()
    process = world.talker()
    assert process.ask(read("a")) == denied(PENDING)
    [entry] = world.pending()
    assert world.cli("deny", entry["hash"]).returncode == 0
    assert world.pending() == []
    process.reconnect()
    assert process.ask(read("a")) == denied(PENDING)
    assert len(world.pending()) == 1
