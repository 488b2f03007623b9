"""A fault of the daemon's own, driven through a real connection with a handler that breaks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keychain_auth.daemon.connection import Connection, Reply
from keychain_auth.platform.linux.readiness import Readiness
from keychain_auth.wire.messages import Limits


class OpenTurn:
    """A turn without a log: answers leave at its end."""

    def __init__(self) -> None:
        self._answers: list[tuple[Any, list[bytes]]] = []

    def run(self, work: Callable[[], None]) -> None:
        work()
        answers, self._answers = self._answers, []
        for receiver, lines in answers:
            receiver.transmit(lines)

    def answers_of(self, receiver: Any) -> list[bytes]:
        self._answers.append((receiver, []))
        return self._answers[-1][1]


class PlainChannel:
    """A socket as the connection needs it."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.fileno, self.send, self.close = end.fileno, end.send, end.close

    def receive(self) -> tuple[bytes, int | None]:
        return self._end.recv(65536), 1

    def end_output(self) -> None:
        self._end.shutdown(socket.SHUT_WR)


class Handler:
    """Answers "now" at once and "later" later; "broken" and "broken later" are faults."""

    admitted = True
    closed = False

    async def respond(self, line: bytes) -> Reply:
        if line.endswith(b"later"):
            await asyncio.sleep(0)
        if line.startswith(b"broken"):
            raise ZeroDivisionError("with something secret in its text")
        return Reply(line + b"\n")

    def distrust(self, sender: int | None) -> str:
        return ""

    def close(self) -> None:
        self.closed = True


async def converse(
    drive: Callable[[asyncio.AbstractEventLoop, socket.socket], Awaitable[None]],
) -> list[dict[str, Any]]:
    loop = asyncio.get_running_loop()
    faults: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    turn = OpenTurn()
    readiness = Readiness(loop, turn.run)
    ended = asyncio.Event()
    handler = Handler()
    channel: Any = PlainChannel(ours)
    anything: Any = handler
    anyturn: Any = turn
    Connection(loop, readiness, anyturn, channel, anything, Limits(), 300.0, lambda _: ended.set())
    with theirs:
        await drive(loop, theirs)
    await asyncio.wait_for(ended.wait(), 5)
    readiness.close()
    assert handler.closed
    return faults


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

    faults = asyncio.run(converse(drive))
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

    assert asyncio.run(converse(drive)) == []
