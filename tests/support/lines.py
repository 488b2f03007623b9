"""The lines of a pipe, taken by a thread as they come: a test waits for a line, never for a while."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import IO

PATIENCE = 60.0  # seconds until a test gives up on something that must happen: a busy machine may need many


class StreamEnded(AssertionError):
    """The stream ended before the line came."""


class Lines:
    """Collects the lines (bytes, without newline) of ``stream``, a pipe that nobody else reads, until its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._fd = stream.fileno()
        self._lines: list[bytes] = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        rest = b""
        while not self._ended:
            self._something(None)
            with self._changed:  # so that whatever is not in the pipe any more is among the lines
                data = os.read(self._fd, 65536)
                *lines, rest = (rest + data).split(b"\n")
                if not data:
                    self._ended = True
                    lines += [rest] if rest else []
                self._lines += lines
                self._changed.notify_all()

    def _something(self, timeout: int | None) -> bool:
        """Whether the pipe holds something, or has come to its end: waits for it as poll(2) does, in milliseconds."""
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        return bool(waiting.poll(timeout))

    def __len__(self) -> int:
        with self._changed:
            return len(self._lines)

    def all(self) -> list[bytes]:
        """The lines so far."""
        with self._changed:
            return list(self._lines)

    def text(self) -> str:
        """The lines so far, as one text."""
        return b"\n".join(self.all()).decode("utf-8", "backslashreplace")

    def find(self, wanted: Callable[[bytes], bool], start: int = 0, timeout: float = PATIENCE) -> int:
        """The index of the first line from ``start`` on that is ``wanted``; waits for it.

        Raises StreamEnded, or AssertionError after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        at = start
        with self._changed:
            while True:
                while at < len(self._lines):
                    if wanted(self._lines[at]):
                        return at
                    at += 1
                if self._ended:
                    raise StreamEnded(f"the stream ended; its last lines were:\n{self._tail()}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no such line within {timeout} s; the last ones:\n{self._tail()}")
                self._changed.wait(left)

    def settle(self, timeout: float = 1.0) -> None:
        """Take all that a program said which ended. Its end is the stream's, unless a child of it holds the pipe:
        that one is not waited for longer than ``timeout`` seconds."""
        self._thread.join(timeout)
        with self._changed:
            self._changed.wait_for(lambda: self._ended or not self._something(0), PATIENCE)

    def __getitem__(self, at: int) -> bytes:
        with self._changed:
            return self._lines[at]

    def _tail(self) -> str:
        return b"\n".join(self._lines[-30:]).decode("utf-8", "backslashreplace")

    def close(self) -> None:
        """Wait for the end of the stream (its writers must be dead) and close it."""
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise AssertionError("a process that a test started still holds its pipe open")
        self._stream.close()


def until(condition: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
    """Wait until ``condition`` holds; for what offers nothing to wait on. Raises AssertionError.

    The pause between two looks is short and bounded by the deadline; it decides nothing.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        pause.wait(0.01)
