"""The daemon's log: lines on stderr, for people or (``--log-json``) for programs.

Contract: never a value; every text that a client chose is escaped (JSON escapes, ASCII only), so that no client can
forge a line or move a terminal's cursor. A reader of stderr that stopped reading does not stop the daemon: lines are
written by a thread, and what does not fit in its queue is counted and said later.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from typing import TextIO

from keychain_auth.moments import stamp_of

_QUEUED = 4096


class Journal:
    """Structured events. One instance for each daemon; ``close`` writes what is queued."""

    def __init__(self, *, as_json: bool = False, stream: TextIO | None = None) -> None:
        self._format = _json_line if as_json else _text_line
        self._stream = stream if stream is not None else sys.stderr
        self._queue: queue.Queue[str | None] = queue.Queue(_QUEUED)
        self._dropped = 0
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    def info(self, event: str, **fields: object) -> None:
        """Something happened as it should."""
        self._put("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something was refused, or wants a person's eye."""
        self._put("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something failed."""
        self._put("error", event, fields)

    def close(self, seconds: float = 2.0) -> None:
        """Write what is queued, for at most ``seconds``."""
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return
        self._writer.join(seconds)

    def _put(self, level: str, event: str, fields: dict[str, object]) -> None:
        if self._dropped:
            fields = {**fields, "lines_dropped_before": self._dropped}
        try:
            self._queue.put_nowait(self._format(level, event, fields))
        except queue.Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):
                continue  # stderr was closed: the daemon serves on


def _now() -> str:
    return stamp_of(time.time())


def _json_line(level: str, event: str, fields: dict[str, object]) -> str:
    return json.dumps({"timestamp": _now(), "level": level, "event": event, **fields}, default=str) + "\n"


def _text_line(level: str, event: str, fields: dict[str, object]) -> str:
    words = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
    return f"{_now()} {level:<7} {event}{' ' if words else ''}{words}\n"


def _word(value: object) -> str:
    if isinstance(value, int | float):
        return str(value)
    text = json.dumps(str(value))  # ASCII: control characters, escapes and odd letters become \\uXXXX
    plain = text[1:-1]
    return plain if plain and " " not in plain and "\\" not in plain and '"' not in plain else text
