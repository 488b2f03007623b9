"""Who is looked at first, and who gives way: the server with connections that the test makes up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from keychain_auth.daemon.requests.gate import RefusedSession
from keychain_auth.daemon.serving import server as server_module
from keychain_auth.daemon.serving.doorway import Doorway
from keychain_auth.daemon.serving.server import Server
from keychain_auth.platform.linux.readiness import Readiness
from keychain_auth.wire.messages import Limits
from support.lines import PATIENCE


class Queue:
    """A listener whose connections are ``channels``, readable as long as there are any."""

    def __init__(self, channels: list[Channel]) -> None:
        self._channels = deque(channels)
        self._ours, self._theirs = socket.socketpair()
        self._theirs.send(b"x")

    def fileno(self) -> int:
        return self._ours.fileno()

    def accept(self) -> Channel:
        if not self._channels:
            raise BlockingIOError
        return self._channels.popleft()

    def may_have_more(self) -> bool:
        return bool(self._channels)

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


class Channel:
    """A connection of the process ``pid``; ``peer`` is the client's end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._end, self.peer = socket.socketpair()
        self._end.setblocking(False)
        self.peer.settimeout(PATIENCE)
        self.fileno, self.send = self._end.fileno, self._end.send
        self.closed = False

    def peer_credentials(self) -> tuple[int, int]:
        return self.pid, 1000

    def receive(self) -> tuple[bytes, int | None]:
        return self._end.recv(65536), self.pid

    def end_input(self) -> None:
        self._end.shutdown(socket.SHUT_RD)

    def end_output(self) -> None:
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.closed = True
        self._end.close()


class Gate:
    """Admits the processes in ``known``, and remembers whom it saw and whom it turned away."""

    def __init__(self, *known: int) -> None:
        self._known = known
        self.seen: list[int] = []
        self.turned_away: list[int] = []
        self.strangers: set[int] = set()

    async def admit(self, channel: Any) -> RefusedSession:
        self.seen.append(channel.pid)
        session = RefusedSession("identity_not_verified")
        session.admitted = channel.pid in self._known
        return session

    def is_known_stranger(self, pid: int) -> bool:
        return pid in self.strangers

    def turn_away(self, channel: Any, reason: str) -> None:
        self.turned_away.append(channel.pid)


class PlainTurn:
    """Answers leave at once; these tests ask nothing."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.answers: list[Any] = []

    def run(self, work: Callable[[], None]) -> None:
        work()


Serve = Callable[..., None]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Let a server take these connections until the condition holds."""
    made: list[Channel] = []

    def run(
        channels: list[Channel], gate: Gate, limits: Limits, condition: Callable[[Gate], bool], **options: bool
    ) -> None:
        made.extend(channels)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            turn: Any = PlainTurn()
            listener: Any = Queue(channels)
            journal: Any = None
            server = Server(loop, readiness, turn, listener, gate, limits, journal, **options)
            server.start()
            async with asyncio.timeout(60):
                while not condition(gate):
                    await asyncio.sleep(0)
            await server.stop(0)

        readiness = Readiness()
        with asyncio.Runner(loop_factory=readiness.new_loop) as runner:
            runner.run(main())

    yield run
    for channel in made:
        channel.close()
        channel.peer.close()


def test_every_process_has_its_turn(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first come, first served queue lets the one that came last wait for all 40 of the other."""
    monkeypatch.setattr(server_module, "_ACCEPT_SECONDS", 60.0)  # all of them are in, however slow the machine
    channels = [*(Channel(1) for _ in range(40)), Channel(2)]
    gate = Gate(1, 2)
    serve(channels, gate, Limits(), lambda gate: len(gate.seen) == 41)
    assert gate.seen.index(2) == 1


def test_the_refused_give_way_and_the_admitted_never_do(serve: Serve) -> None:
    channels = [Channel(1), Channel(2), Channel(3), Channel(4)]
    gate = Gate(2, 3, 4)
    serve(channels, gate, Limits(connections=2), lambda gate: len(gate.seen) + len(gate.turned_away) == 4)
    assert gate.seen == [1, 2, 3]
    assert gate.turned_away == [4]


def test_where_people_ask_the_longest_silent_gives_way(serve: Serve) -> None:
    channels = [Channel(number) for number in range(5)]
    gate = Gate(0, 1, 2, 3, 4)
    serve(channels, gate, Limits(connections=2), lambda gate: len(gate.seen) == 5, for_people=True)
    assert gate.turned_away == []
    assert [channel.peer.recv(100) for channel in channels[:3]] == [b"", b"", b""]


def test_beyond_its_share_a_process_is_turned_away(serve: Serve) -> None:
    channels = [Channel(1) for _ in range(5)]
    gate = Gate(1)
    serve(channels, gate, Limits(connections_per_process=3), lambda gate: len(gate.turned_away) == 2)
    assert channels[4].peer.recv(100).startswith(b'{"type":"RESPONSE","status":"error","reason":"rate_limited"}')


def test_who_was_refused_a_moment_ago_comes_after_the_others(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_ACCEPT_SECONDS", 60.0)
    channels = [Channel(1), Channel(1), Channel(1), Channel(2)]
    gate = Gate(2)
    gate.strangers.add(1)
    serve(channels, gate, Limits(connections_per_process=2), lambda gate: len(gate.seen + gate.turned_away) == 4)
    assert gate.seen == [2, 1, 1]
    assert gate.turned_away == [1]


def test_the_doorway_takes_one_of_each_user_in_turn() -> None:
    """Who starts a hundred processes is not looked at a hundred times as often."""
    doorway = Doorway(8)
    ends: list[Any] = [Channel(pid) for pid in range(6)]
    processes = [(1, 10), (2, 10), (3, 10), (4, 10), (1, 20), (2, 20)]
    for process, channel in zip(processes, ends, strict=True):
        doorway.put(process, channel)
    order = [taken[0] for _ in ends if (taken := doorway.take()) is not None]
    assert order == [(1, 10), (1, 20), (2, 10), (2, 20), (3, 10), (4, 10)]
    for channel in ends:
        channel.close()
        channel.peer.close()


def test_the_doorway_takes_one_of_each_process_in_turn() -> None:
    doorway = Doorway(6)
    channels: list[Any] = [Channel(pid) for pid in (1, 1, 1, 2, 2, 3)]
    for channel in channels:
        assert not doorway.full
        doorway.put((channel.pid, 1000), channel)
    assert doorway.full
    order = [taken[1] for _ in channels if (taken := doorway.take()) is not None]
    assert [channels.index(channel) for channel in order] == [0, 3, 5, 1, 4, 2]
    assert doorway.take() is None
    for channel in channels:
        channel.close()
        channel.peer.close()
