"""Who answers what arrives on a connection, as the connection knows it; and when what arrived is not to be trusted.

Contract: a handler is asked ``distrust`` for each piece of data that arrived, before any line of it is answered. After
``impostor`` and ``overlong`` nothing more is answered. ``close`` is called once, at the end.

What it does not promise: that the program is still the one that was verified after its piece was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An answer line, and whether it is the last one."""

    line: bytes
    last: bool = False


Answer = bytes | Reply | Coroutine[Any, Any, Reply]
"""An answer line after which the connection goes on (most of them), a ``Reply``, or what will have one."""


class Handler(Protocol):
    """Who answers the lines of a connection."""

    @property
    def admitted(self) -> bool:
        """Somebody who may ask; others are only told why not. One of those can become one of these, never back."""

    def distrust(self, sender: int | None) -> str:
        """Why what ``sender`` sent must not be acted on; empty if the verified program sent it."""

    def respond(self, line: bytes) -> Answer:
        """The answer to one line, or what will have it."""

    def impostor(self, why: str) -> Reply:
        """The last answer, after ``distrust`` said why."""

    def unasked(self) -> Reply | None:
        """What a caller is told that has asked nothing for a moment, and is not going to be served; else None."""

    def overlong(self) -> Reply:
        """The answer to a line beyond the limit: framing is lost, so it is the last."""

    def close(self) -> None:
        """The connection is over."""


def distrust(pid: int, sender: int | None, is_unchanged: Callable[[], bool | None]) -> str:
    """Why what ``sender`` sent on the connection of ``pid`` must not be acted on; empty if it may."""
    if sender != pid:
        return "a message was sent by another process than the one that connected, or with a descriptor attached"
    unchanged = is_unchanged()
    if unchanged:
        return ""
    return "the program replaced itself" if unchanged is False else "the process ended before its message was read"
