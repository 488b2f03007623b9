"""A native client program that does what a test tells it: see ``c/talker.c`` for its orders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from support.lines import PATIENCE, StreamEnded
from support.process import Process


class Talker(Process):
    """A connected client. Answers and events are taken in the order in which they came."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._connection = 0  # index of the first line that speaks of the present connection
        self._answers = 0  # index of the first line not yet looked at, for answers
        self._events = 0  # the same for events

    def ask(self, request: Mapping[str, Any], timeout: float = PATIENCE) -> dict[str, Any]:
        """Send one request and return its answer."""
        self.send(request)
        return self.answer(timeout)

    def send(self, *requests: Mapping[str, Any]) -> None:
        """Send requests (one line each, in one write) without waiting for answers."""
        self.send_raw(_lines(requests))

    def send_raw(self, data: bytes) -> None:
        """Send exactly these bytes, newline or not."""
        self.feed(b"!raw %d\n" % len(data) + data)

    def order(self, order: str, timeout: float = PATIENCE) -> None:
        """Give an order and wait until it is done. Raises AssertionError if it failed."""
        self.feed(b"!" + order.encode() + b"\n")
        word = order.split(" ", 1)[0]
        event = self.event(lambda text: text == f"done {word}" or text.startswith("failed"), timeout)
        assert not event.startswith("failed"), f"{order}: {event}"

    def event(self, wanted: Any, timeout: float = PATIENCE) -> str:
        """The next event that ``wanted`` (a text, or a function of the text) fits; others are passed over."""
        fits = wanted if callable(wanted) else (lambda text: text == wanted)
        at = self.out.find(lambda line: line[:1] == b"#" and fits(line[1:].decode()), self._events, timeout)
        self._events = at + 1
        return self.out[at][1:].decode()

    def readline(self, timeout: float = PATIENCE) -> bytes:
        """The next answer line, as it came. Raises StreamEnded when the connection ended before it."""
        at = self.out.find(lambda line: line[:1] == b"<" or _ends(line), self._answers, timeout)
        line = self.out[at]
        if _ends(line):
            raise StreamEnded(f"the connection ended ({line[1:].decode()}) before an answer came")
        self._answers = at + 1
        return line[1:]

    def answer(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """The next answer."""
        answer = json.loads(self.readline(timeout))
        assert isinstance(answer, dict)
        return answer

    def eof(self, timeout: float = PATIENCE) -> bool:
        """Wait for the end of the connection: True if it was orderly, False if it was reset."""
        return self.out[self.out.find(_ends, self._connection, timeout)] == b"#eof"

    def answers(self) -> list[bytes]:
        """All answer lines so far, those already read included."""
        return [line[1:] for line in self.out.all() if line[:1] == b"<"]

    def connected(self, timeout: float = PATIENCE) -> Talker:
        """Wait until it is connected. Raises AssertionError if it cannot."""
        event = self.event(lambda text: text == "connected" or text.startswith("failed"), timeout)
        assert event == "connected", event
        self._connection = self._answers = self._events
        return self

    def begin(self, *requests: Mapping[str, Any]) -> Talker:
        """Connect and send these in one go. A stranger that says nothing for a second is told that it is one, and does
        not wait any more: on a busy machine, that much may pass between two orders of a test."""
        lines = _lines(requests)
        self.feed(b"!connect\n!raw %d\n" % len(lines) + lines)
        return self.connected()

    def reconnect(self) -> Talker:
        """A new connection from the same process; what the old one said is forgotten."""
        self.feed(b"!connect\n")
        return self.connected()


def _lines(requests: Sequence[Mapping[str, Any]]) -> bytes:
    text = "".join(json.dumps(request, ensure_ascii=False) + "\n" for request in requests)
    return text.encode("utf-8", "surrogatepass")


def _ends(line: bytes) -> bool:
    return line in (b"#eof", b"#reset")
