"""A fault of the daemon's own, driven through a real connection with a handler that breaks."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keychain_auth.daemon.serving.connection import Connection
from keychain_auth.daemon.serving.handler import Reply
from keychain_auth.platform.linux.readiness import Readiness
from keychain_auth.wire.messages import Limits


class OpenTurn:
    """A turn without a log: answers leave at its end."""

    def __init__(self) -> None:
        self.answers: list[tuple[Any, list[bytes]]] = []
        self.received: list[tuple[Any, bytes, int | None]] = []

    def serve(self, ready: list[Callable[[], None]]) -> None:
        for receive in ready:
            receive()
        self.run(self._act)

    def _act(self) -> None:
        for connection, data, sender in self.received:
            try:
                connection.act(data, sender)
            except Exception as fault:  # noqa: BLE001 - as a real turn does
                connection.give_up(fault)
        self.received.clear()

    def run(self, work: Callable[[], None]) -> None:
        work()
        for receiver, lines in self.answers:
            receiver.transmit(lines)
        self.answers.clear()

    def answers_of(self, receiver: Any) -> list[bytes]:
        self.answers.append((receiver, []))
        return self.answers[-1][1]


class PlainChannel:
    """A socket as the connection needs it."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.fileno, self.send, self.close = end.fileno, end.send, end.close

    def receive(self) -> tuple[bytes, int | None]:
        return self._end.recv(65536), 1

    def end_input(self) -> None:
        self._end.shutdown(socket.SHUT_RD)

    def end_output(self) -> None:
        self._end.shutdown(socket.SHUT_WR)


class Handler:
    """Answers "now" at once and "later" later, "last" for the last time, "big" at length; "broken" is a fault.

    "held" waits for ``held``.
    """

    held: asyncio.Event
    admitted = True
    closed = False

    async def respond(self, line: bytes) -> Reply:
        if line.endswith(b"later"):
            await asyncio.sleep(0)
        if line == b"held":
            await self.held.wait()
        if line.startswith(b"broken"):
            raise ZeroDivisionError("with something secret in its text")
        if line == b"big":
            return Reply(b"x" * 4_000_000 + b"\n")
        return Reply(line + b"\n", last=line == b"last")

    def distrust(self, sender: int | None) -> str:
        return ""

    def unasked(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True


Drive = Callable[[asyncio.AbstractEventLoop, socket.socket], Awaitable[None]]


def converse(drive: Drive, watch: Callable[[Connection], None] = lambda _: None) -> list[dict[str, Any]]:
    """Drive a connection from its other end, until it has ended; the faults that were reported."""
    readiness = Readiness()
    with asyncio.Runner(loop_factory=readiness.new_loop) as runner:
        return runner.run(_converse(readiness, drive, watch))


async def _converse(readiness: Readiness, drive: Drive, watch: Callable[[Connection], None]) -> list[dict[str, Any]]:
    loop = asyncio.get_running_loop()
    faults: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    turn = OpenTurn()
    readiness.serve_by(turn.serve)
    ended = asyncio.Event()
    handler = Handler()
    channel: Any = PlainChannel(ours)
    anything: Any = handler
    anyturn: Any = turn
    limits = Limits(unread_answer_bytes=1_000_000)
    connection = Connection(loop, readiness, anyturn, channel, anything, limits, 300.0, 300.0, lambda _: ended.set())
    watch(connection)
    connection.begin()
    with theirs:
        await drive(loop, theirs)
    await asyncio.wait_for(ended.wait(), 5)
    assert handler.closed
    return faults


def test_what_was_sent_before_is_answered_without_a_round_of_the_loop() -> None:
    watched: list[Connection] = []

    async def drive(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        watched[0].begin()  # nothing is there yet, and that is no fault
        client.send(b"early\n")
        watched[0].begin()
        assert client.recv(100) == b"early\n"
        await loop.sock_sendall(client, b"now\n")
        assert await loop.sock_recv(client, 100) == b"now\n"

    assert converse(drive, watched.append) == []


@pytest.mark.parametrize("line", [b"broken", b"broken later"])
def test_a_fault_ends_the_connection_and_is_reported(line: bytes) -> None:
    async def drive(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        await loop.sock_sendall(client, b"now\n")
        assert await loop.sock_recv(client, 100) == b"now\n"
        await loop.sock_sendall(client, line + b"\nnow\n")
        try:
            assert await loop.sock_recv(client, 100) == b""
        except ConnectionResetError:
            return

    faults = converse(drive)
    assert [type(fault["exception"]) for fault in faults] == [ZeroDivisionError]


def test_answers_keep_their_order_whether_they_wait_or_not() -> None:
    words = [b"a", b"b later", b"c", b"d later", b"e later", b"f"] * 50

    async def drive(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        expected = b"".join(word + b"\n" for word in words)
        await loop.sock_sendall(client, expected)
        got = b""
        while len(got) < len(expected):
            got += await loop.sock_recv(client, 65536)
        assert got == expected

    assert converse(drive) == []


def test_after_the_last_answer_the_client_is_heard_out_but_not_answered() -> None:
    """Closing at once would reset a client that is still sending, and the last answer could be lost with it."""

    async def drive(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        await loop.sock_sendall(client, b"last\nnow\n")
        assert await loop.sock_recv(client, 100) == b"last\n"
        await loop.sock_sendall(client, b"now\n" * 100)
        assert await loop.sock_recv(client, 100) == b""

    assert converse(drive) == []


def test_a_client_that_takes_nothing_of_a_large_answer_is_closed() -> None:
    watched: list[Connection] = []

    async def drive(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        await loop.sock_sendall(client, b"big\n")
        assert await loop.sock_recv(client, 1) == b"x"
        now = time.monotonic()
        assert not watched[0].expire(now + 1)
        assert watched[0].expire(now + 11)

    assert converse(drive, watched.append) == []


def test_what_comes_while_an_answer_waits_is_left_to_the_kernel_and_answered_after_it() -> None:
    async def drive(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        Handler.held = held = asyncio.Event()
        client.send(b"held\n")
        while _not_taken(client):
            await asyncio.sleep(0)
        client.send(b"now\n")
        for _ in range(5):
            await asyncio.sleep(0)
        assert _not_taken(client)
        held.set()
        assert await loop.sock_recv(client, 5) == b"held\n"
        assert await loop.sock_recv(client, 4) == b"now\n"
        assert not _not_taken(client)

    assert converse(drive) == []


def _not_taken(client: socket.socket) -> int:
    """How much the kernel holds of what was sent (SIOCOUTQ, unix(7))."""
    return int.from_bytes(fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
