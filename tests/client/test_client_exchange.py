"""One request and its answer, step by step over a socket pair: every split, every way to end."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keychain_auth.client.connection import WANT_READ, WANT_WRITE, Connection
from keychain_auth.client.exchange import Exchange, checked_timeout
from keychain_auth.errors import ConnectionLost, InvalidRequest
from keychain_auth.wire import client as wire

READ = {"type": "REQUEST", "action": "read", "service": "s", "targets": ["t"]}
WRITE = {"type": "REQUEST", "action": "write", "service": "s", "targets": ["t"], "values": ["x" * 3_000_000]}
ANSWER = '{"type":"RESPONSE","status":"success","results":[{"target":"t","value":"päßword"}]}\n'.encode()
DENIAL = b'{"type":"RESPONSE","status":"denied","reason":"unregistered_binary_pending_approval"}\n'


class Ends:
    """A client's connection and the daemon's end of it."""

    def __init__(self) -> None:
        ours, self.daemon = socket.socketpair()
        ours.setblocking(False)
        self.connection = Connection(ours)

    def close(self) -> None:
        self.connection.close()
        self.daemon.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    pair = Ends()
    yield pair
    pair.close()


@settings(deadline=None)  # the machine may be busy; time is not what is tested
@given(st.lists(st.integers(1, len(ANSWER) - 1), unique=True).map(sorted))
def test_an_answer_may_come_in_any_pieces(cuts: list[int]) -> None:
    pair = Ends()
    try:
        exchange = Exchange(pair.connection, wire.raw(READ))
        assert exchange.advance() == WANT_READ
        for begin, end in zip([0, *cuts], [*cuts, len(ANSWER)], strict=True):
            pair.daemon.sendall(ANSWER[begin:end])
            assert exchange.advance() == (0 if end == len(ANSWER) else WANT_READ)
        assert exchange.response()["results"][0]["value"] == "päßword"
        assert exchange.reusable(exchange.response())
    finally:
        pair.close()


def test_a_wakeup_without_bytes_changes_nothing(ends: Ends) -> None:
    exchange = Exchange(ends.connection, wire.raw(READ))
    assert [exchange.advance() for _ in range(3)] == [WANT_READ] * 3
    ends.daemon.sendall(ANSWER)
    assert exchange.advance() == 0


def test_a_request_larger_than_the_socket_is_sent_in_pieces(ends: Ends) -> None:
    call = wire.raw(WRITE)
    exchange = Exchange(ends.connection, call)
    assert exchange.advance() == WANT_READ | WANT_WRITE
    got = bytearray()
    while not got.endswith(b"\n"):
        got += ends.daemon.recv(1 << 20)
        exchange.advance()
    assert bytes(got) == call.line
    assert call.sent_whole


def test_a_denial_is_heard_while_the_request_is_still_being_sent(ends: Ends) -> None:
    call = wire.raw(WRITE)
    exchange = Exchange(ends.connection, call)
    assert exchange.advance() == WANT_READ | WANT_WRITE
    # It reads nothing any more, and does not close: with half a request on it, the connection is lost all the same.
    ends.daemon.sendall(b'{"type":"RESPONSE","status":"denied","reason":"service_not_allowed"}\n')
    assert exchange.advance() == 0
    assert exchange.response()["reason"] == "service_not_allowed"
    assert not exchange.reusable(exchange.response())


@pytest.mark.parametrize("sent_before", [False, True], ids=["before the first byte", "in the middle"])
def test_a_denial_then_close_is_reported_not_the_broken_pipe(ends: Ends, sent_before: bool) -> None:
    call = wire.raw(WRITE)
    exchange = Exchange(ends.connection, call)
    if sent_before:
        exchange.advance()
    ends.daemon.sendall(DENIAL)
    ends.daemon.close()  # with unread input: the kernel resets the connection
    # What a naive client sees, which sends all and then reads:
    naive = ends.connection.socket.dup()
    with naive, pytest.raises((BrokenPipeError, ConnectionResetError)):
        naive.sendall(call.line)

    assert exchange.advance() == 0
    assert exchange.response()["reason"] == "unregistered_binary_pending_approval"
    assert not call.sent_whole


def test_an_end_in_the_middle_of_an_answer_says_so(ends: Ends) -> None:
    exchange = Exchange(ends.connection, wire.raw(READ))
    exchange.advance()
    ends.daemon.sendall(ANSWER[:-1])  # complete but for its newline: still no answer
    exchange.advance()
    ends.daemon.close()
    with pytest.raises(ConnectionLost, match=rf"in the middle of its answer \(after {len(ANSWER) - 1} bytes\)"):
        exchange.advance()
    assert not exchange.may_repeat


@pytest.mark.parametrize(
    ("message", "whole", "outcome"),
    [
        (READ, True, "before it answered$"),
        (WRITE, False, "before it answered; the write was not carried out$"),
        ({**WRITE, "values": ["x"]}, True, "whether the write was carried out is unknown"),
        ({**READ, "action": "delete"}, True, "whether the delete was carried out is unknown"),
        ({**READ, "action": "of a later version"}, True, "is unknown"),
    ],
)
def test_an_end_before_any_answer_says_what_became_of_the_request(
    ends: Ends, message: dict[str, object], whole: bool, outcome: str
) -> None:
    call = wire.raw(message)
    exchange = Exchange(ends.connection, call)
    exchange.advance()
    assert call.sent_whole == whole
    ends.daemon.close()
    with pytest.raises(ConnectionLost, match=outcome):
        exchange.advance()


@pytest.mark.parametrize(
    ("answered", "message", "may_repeat"),
    [
        (True, READ, True),
        (True, {**READ, "action": "search"}, True),
        (True, {**READ, "action": "check"}, True),
        (True, WRITE, False),
        (True, {**READ, "action": "delete"}, False),
        (False, READ, False),  # a new connection that ends at once is no idle one: asking again would go on for ever
    ],
)
def test_what_is_repeated_after_the_request_went_out_whole(
    ends: Ends, answered: bool, message: dict[str, object], may_repeat: bool
) -> None:
    ends.connection.answered = answered
    call = wire.raw({**message, "values": ["x"]} if "values" in message else message)
    exchange = Exchange(ends.connection, call)
    exchange.advance()
    assert call.sent_whole
    ends.daemon.close()
    with pytest.raises(ConnectionLost):
        exchange.advance()
    assert exchange.may_repeat == may_repeat


def test_a_write_is_repeated_when_its_newline_never_left(ends: Ends) -> None:
    ends.connection.answered = True
    exchange = Exchange(ends.connection, wire.raw(WRITE))
    exchange.advance()
    ends.daemon.close()
    with pytest.raises(ConnectionLost):
        exchange.advance()
    assert exchange.may_repeat


def test_bytes_after_the_answer_end_the_connections_use(ends: Ends) -> None:
    exchange = Exchange(ends.connection, wire.raw(READ))
    exchange.advance()
    ends.daemon.sendall(ANSWER + b"{")
    assert exchange.advance() == 0
    assert exchange.response()["status"] == "success"
    assert not exchange.reusable(exchange.response())


def test_usable_tells_idle_closed_and_talkative_connections_apart(ends: Ends) -> None:
    assert ends.connection.usable()
    ends.daemon.sendall(DENIAL)
    assert ends.connection.usable(), "the daemon's first words belong to the first request"
    ends.connection.answered = True
    assert not ends.connection.usable(), "later they belong to nobody"
    ends.connection.socket.recv(4096)
    assert ends.connection.usable()
    ends.daemon.close()
    assert not ends.connection.usable()


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "5"])
def test_a_timeout_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest):
        checked_timeout(wrong)  # type: ignore[arg-type]


def test_timeouts() -> None:
    assert checked_timeout(..., 7.0) == 7.0
    assert checked_timeout(None, 7.0) is None
    assert checked_timeout(2, 7.0) == 2.0
    assert checked_timeout(float("inf"), 7.0) is None
