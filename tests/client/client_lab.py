"""A daemon that follows a script: the client's tests say what the other end does, byte by byte.

It listens on a real Unix socket (on Windows: a named pipe), in a thread. The n-th connection runs the n-th script. A
script that fails, or a connection that never comes, fails the test.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE = 20.0  # seconds until a test that hangs is called failed


class Conversation:
    """The daemon's end of one connection."""

    def __init__(self, connection: End) -> None:
        connection.settimeout(PATIENCE)
        self.connection = connection
        self._stream = connection.makefile("rb")

    def request(self) -> dict[str, object]:
        """The next request; fails at the end of the stream."""
        line = self._stream.readline()
        assert line.endswith(b"\n"), f"no whole request, only {len(line)} bytes"
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def answer(self, **fields: object) -> None:
        """Send one answer; without fields: success."""
        fields.setdefault("status", "success")
        self.send(json.dumps({"type": "RESPONSE", **fields}).encode() + b"\n")

    def send(self, data: bytes) -> None:
        """Send these very bytes."""
        self.connection.sendall(data)

    def lines(self) -> Iterator[bytes]:
        """The lines to come, until the client leaves."""
        return iter(self._stream)

    def until_end(self) -> bytes:
        """Everything up to the client's close; the client is waited for."""
        got = bytearray()
        # A client that leaves without having read everything resets the connection: that is an end, too.
        with contextlib.suppress(ConnectionResetError):
            while chunk := self._stream.read1():
                got += chunk
        return bytes(got)

    def close(self) -> None:
        """End of the stream. makefile() holds the descriptor too, so both are closed."""
        self._stream.close()
        self.connection.close()


Script = Callable[[Conversation], object]  # what it returns does not matter


class SocketListener:
    """Listens at ``path``, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "agent.sock")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen(64)

    def accept(self) -> socket.socket:
        """The next connection. Raises OSError after ``wake``."""
        return self._socket.accept()[0]

    def somebody_waits(self) -> bool:
        """Has a client connected that nobody accepted?"""
        return bool(select.select([self._socket], [], [], 0)[0])

    def wake(self) -> None:
        """End every ``accept``."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Connections stay."""
        self._socket.close()


if sys.platform == "win32":
    from pipe_side import PipeEnd as End
    from pipe_side import PipeListener as Listener
else:
    End = socket.socket
    Listener = SocketListener


class ScriptedDaemon:
    """Listens at ``path``; ``serve`` says what happens on the connections to come."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._listener = Listener(folder)
        self.path = self._listener.path
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []

    def serve(self, *scripts: Script) -> None:
        """Run ``scripts``, one for each connection in the order of arrival, each in a thread of its own."""
        self._start(self._accept, scripts)

    def wait(self) -> None:
        """Until every script has ended; raises what went wrong in them."""
        while self._threads:
            thread = self._threads.pop(0)
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a script of the daemon hangs"
        if self._failures:
            raise self._failures.pop(0)

    def nobody_waits(self) -> bool:
        """True when no connection was made beyond those that the scripts served."""
        self.wait()
        return not self._listener.somebody_waits()

    def close(self) -> None:
        """Stop; raises what went wrong in a script."""
        if not self._closed:
            self._closed = True
            self._listener.wake()
            self.wait()
            self._listener.close()

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=self._guard, args=(work, *arguments)))
        self._threads[-1].start()

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as failure:  # noqa: BLE001 - handed to the test's own thread
            self._failures.append(failure)

    def _accept(self, scripts: tuple[Script, ...]) -> None:
        for script in scripts:
            self._start(self._converse, script, Conversation(self._listener.accept()))

    def _converse(self, script: Script, conversation: Conversation) -> None:
        try:
            script(conversation)
        finally:
            conversation.close()


def echo(conversation: Conversation) -> None:
    """Answer each read with targets as values, until the client leaves."""
    for line in conversation.lines():
        message = json.loads(line)
        results = [{"target": target, "value": f"value of {target}"} for target in message.get("targets", [])]
        conversation.answer(results=results)


def answer_one(conversation: Conversation) -> None:
    conversation.request()
    conversation.answer()


def deny(conversation: Conversation, reason: str = "unregistered_binary_pending_approval") -> None:
    conversation.request()
    conversation.answer(status="denied", reason=reason)


def messages(error: BaseException) -> str:
    """All that a report of ``error`` could print: it, and what it was raised from or beside."""
    texts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        texts += [str(current), repr(current), repr(vars(current))]
        current = current.__cause__ or current.__context__
    return "\n".join(texts)


def run_program(source: str, *arguments: str, **options: Any) -> str:
    """Run a Python program of its own process and return what it printed; its failure fails the test."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        capture_output=True, text=True, timeout=PATIENCE, check=False, **options,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
