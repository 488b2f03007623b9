"""client.admin against listeners that misbehave: every end has a name, an exit code, and no value in it."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator

import pytest

from keychain_auth import errors
from keychain_auth.client import admin
from support import users
from support.world import World

Listener = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Listens as the admin socket in this very process: ``serve`` gets the first connection."""
    threads: list[threading.Thread] = []
    with tempfile.TemporaryDirectory(prefix="ka-") as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.join(folder, "admin.sock"))
        listening.listen()

        def start(serve: Callable[[socket.socket], None]) -> str:
            def run() -> None:
                connection, _ = listening.accept()
                with connection:
                    serve(connection)

            threads.append(threading.Thread(target=run))
            threads[0].start()
            return os.path.join(folder, "agent.sock")

        yield start
        for thread in threads:
            thread.join()


def answering(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Reads the request, sends ``pieces`` one after another, and closes."""

    def serve(connection: socket.socket) -> None:
        request = connection.makefile("rb").readline()
        assert request.endswith(b"\n")
        for piece in pieces:
            connection.sendall(piece)

    return serve


def test_an_answer_in_pieces_of_any_length(listener: Listener) -> None:
    long = b"x" * 3_000_000
    path = listener(answering(b'{"ok":true,', b'"result":"', long, b'"', b"}\n"))
    assert admin.ask("get", socket=path) == long.decode()


@pytest.mark.parametrize(
    ("answer", "kind", "code", "words"),
    [
        (b'{"ok":false,"error":"sealed","hint":"unlock it","exit_code":5}\n', errors.KeychainAuthError, 5, "sealed"),
        (b'{"ok":false,"error":"odd","exit_code":0}\n', errors.KeychainAuthError, 1, "odd"),
        (b'{"ok":false,"error":"odd","exit_code":"x","hint":1}\n', errors.KeychainAuthError, 1, "odd"),
        (b'{"type":"RESPONSE","status":"denied","reason":"user_not_allowed"}\n', errors.UserNotAllowed, 3, "user_not"),
        (b'{"type":"RESPONSE","status":"error","reason":"rate_limited"}\n', errors.RateLimited, 1, "rate_limited"),
        (b"not json\n", errors.KeychainAuthError, 1, "not one of its admin socket"),
        (b"\xff\n", errors.KeychainAuthError, 1, "not one of its admin socket"),
        (b"[1]\n", errors.KeychainAuthError, 1, "not one of its admin socket"),
        (b"[" * 100_000 + b"\n", errors.KeychainAuthError, 1, "not one of its admin socket"),
        (b'{"ok":true,"result":"cut off', errors.ConnectionLost, 1, "closed the connection"),
        (b"", errors.ConnectionLost, 1, "closed the connection"),
    ],
    ids=range(11),
)
def test_answers_that_are_none(
    listener: Listener, answer: bytes, kind: type[errors.KeychainAuthError], code: int, words: str
) -> None:
    path = listener(answering(answer))
    with pytest.raises(kind, match=words) as caught:
        admin.ask("set", socket=path, service="aws", target="a", value="hunter2")
    assert caught.value.exit_code == code
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__context__ is None or "hunter2" not in repr(vars(caught.value.__context__))


def test_a_refusal_is_heard_although_not_all_was_sent(listener: Listener) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.sendall(b'{"ok":false,"error":"too long","exit_code":2}\n')
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # and then closed with the rest unread

    path = listener(refuse)
    with pytest.raises(errors.KeychainAuthError, match="too long") as caught:
        admin.ask("set", socket=path, value="x" * 5_000_000)
    assert caught.value.exit_code == 2


def test_a_daemon_that_never_answers(listener: Listener) -> None:
    asked = threading.Event()
    path = listener(lambda connection: bool(connection.recv(100)) and asked.wait(60) and None)
    with pytest.raises(errors.RequestTimeout, match=r"within 0\.1 s"):
        admin.ask("status", socket=path, timeout=0.1)
    asked.set()


def test_a_full_queue_of_connections_is_waited_for(listener: Listener) -> None:
    path = listener(answering(b'{"ok":true,"result":1}\n'))
    assert admin.ask("status", socket=path) == 1
    with tempfile.TemporaryDirectory(prefix="ka-") as folder, socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(os.path.join(folder, "admin.sock"))
        deaf.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(os.path.join(folder, "admin.sock"))  # the one place in the queue
            with pytest.raises(errors.RequestTimeout):
                admin.ask("status", socket=os.path.join(folder, "agent.sock"), timeout=0.1)


def test_what_is_not_utf8_is_never_sent() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        admin.ask("set", socket="/nowhere/agent.sock", value="hunter2\udcff")
    assert caught.value.__context__ is None  # UnicodeEncodeError carries the whole text


def test_another_user_gets_nothing(running: World, stranger: users.Account) -> None:
    running.cli("set", "aws", "key", input="hunter2")
    done = running.cli("get", "-s", running.socket, "aws", "key", account=stranger)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot connect" in done.stderr
