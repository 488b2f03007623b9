"""Lines out of a byte stream: one message, one ``\\n``.

Contract (protocol, section "Transport"): a message is everything up to a newline. What follows the last
newline is not a message, however complete it looks: at the end of the stream it is dropped, never executed.
A line longer than the limit loses the framing: nobody can say where the next message begins, so the
stream is over.
"""

from __future__ import annotations


class LineTooLong(Exception):
    """The stream holds more than the limit without a newline; framing is lost."""


class LineSplitter:
    """Feed bytes, take whole lines (without their newline).

    At most ``limit`` bytes of an unfinished line are ever held.
    """

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()

    @property
    def unfinished(self) -> bool:
        """True while a line has begun and not ended."""
        return bool(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, in order.

        Raises LineTooLong when a line exceeds the limit; lines completed before it are lost with it
        unless taken by an earlier call, and the splitter must not be used again.
        """
        if not self._held and data.find(b"\n") == len(data) - 1 < self._limit and data:
            return [data[:-1]]  # the common case by far: exactly one whole line arrived, nothing was held
        *lines, rest = data.split(b"\n")
        if lines and self._held:
            self._held += lines[0]
            lines[0] = bytes(self._held)
            self._held.clear()
        self._held += rest
        if len(self._held) > self._limit or any(len(line) > self._limit for line in lines):
            raise LineTooLong
        return lines
