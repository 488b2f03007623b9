"""The lines of a pipe, taken by a thread as they come: a test waits for a line, never for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import IO

PATIENCE = 40.0  # seconds until a test gives up on something that must happen


class StreamEnded(AssertionError):
    """The stream ended before the line came."""


class Lines:
    """Collects the lines (bytes, without newline) of ``stream`` until its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lines: list[bytes] = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        for line in self._stream:
            with self._changed:
                self._lines.append(line.rstrip(b"\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

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
        """Wait for the end of the stream, not for long: the program ended, a child may still hold the pipe."""
        self._thread.join(timeout)

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
