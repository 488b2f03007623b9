"""One request and its answer on one connection, in steps that never wait.

Contract (protocol, sections "Transport" and "Client library"):
* ``advance`` does what can be done now and says what to wait for; who waits, and how, is the caller's affair. The
  blocking client and the asyncio client drive the same steps, so they cannot differ.
* An answer may have any length. It is complete at its newline, and only then is it an answer.
* A daemon that refuses may do so, and close, while the request is still being sent. What it said is read before
  anybody complains about the broken pipe.
* After an error the connection is in an unknown state and must be closed: its next bytes could be the rest of this
  answer. After an answer, ``reusable`` tells.
"""

from __future__ import annotations

import _socket as socket

from keychain_auth.client.connection import WANT_READ, WANT_WRITE, Connection
from keychain_auth.errors import ConnectionLost, InvalidRequest
from keychain_auth.wire import answers
from keychain_auth.wire import client as wire

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would double what this import costs
    from types import EllipsisType
    from typing import Any

    Timeout = float | EllipsisType | None  # seconds; None: no limit; ...: what the client was created with

_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # Windows knows no SIGPIPE
_FIRST_CHUNK = 64 * 1024
_NEXT_CHUNK = 256 * 1024  # more than a Unix socket holds by default (net.core.wmem_default)
_YEARS = 1e9  # seconds; the clocks of poll, locks and event loops end somewhere above


class Exchange:
    """``call`` on its way over ``connection``. Its line is sent at most once."""

    __slots__ = ("_broken", "_call", "_chunks", "_line", "_received", "_spare", "_unsent", "connection")

    def __init__(self, connection: Connection, call: wire.Call) -> None:
        call.sent_whole = False
        self.connection = connection
        self._call = call
        self._unsent = memoryview(call.line)
        self._broken = False
        self._chunks: list[bytes] = []
        self._received = 0
        self._line: bytes | None = None
        self._spare = False

    @property
    def may_repeat(self) -> bool:
        """After ConnectionLost: is it safe, and sensible, to send the same request on a new connection?

        Safe when the daemon cannot have changed anything. Sensible when the connection had served before and ended
        without a byte: that is what an idle connection looks like when the daemon has just closed it.
        """
        return self.connection.answered and not self._received and not self._call.may_have_run

    def advance(self) -> int:
        """Send and receive what is possible now. Returns the events to wait for, 0 when the answer is here.

        Raises ConnectionLost.
        """
        if self._unsent and not self._broken:
            self._send()
            if self._call.sent_whole:
                return WANT_READ
        chunk = self._receive()
        if chunk is not None:
            self._take(chunk)
        if self._line is not None:
            return 0
        return WANT_READ if self._broken or not self._unsent else WANT_READ | WANT_WRITE

    def response(self) -> dict[str, Any]:
        """The answer, once ``advance`` has returned 0. Raises BadAnswer."""
        if self._line is None:
            raise RuntimeError("there is no answer yet")
        return answers.parse_response(self._line)

    def reusable(self, response: dict[str, Any]) -> bool:
        """Is the connection good for another request, after this answer?"""
        return self._call.sent_whole and not self._spare and not answers.closes_connection(response)

    def _send(self) -> None:
        try:
            # MSG_NOSIGNAL: a program that set SIGPIPE back to its default must not die of a daemon's restart.
            sent = self.connection.socket.send(self._unsent, _NO_SIGNAL)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._broken = True
            return
        except OSError as error:
            raise ConnectionLost(f"cannot send to the keychain-auth daemon: {error.strerror}") from None
        self._unsent = self._unsent[sent:]
        self._call.sent_whole = not self._unsent

    def _receive(self) -> bytes | None:
        """The next bytes, b"" at the end of the stream, None when there is nothing yet."""
        try:
            return self.connection.socket.recv(_NEXT_CHUNK if self._chunks else _FIRST_CHUNK)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # The daemon closed before it had read all that we sent. The kernel hands over what the daemon wrote
            # first, and says this only when nothing is left: it is the end of the stream.
            return b""
        except OSError as error:
            raise ConnectionLost(f"cannot read from the keychain-auth daemon: {error.strerror}") from None

    def _take(self, chunk: bytes) -> None:
        if not chunk:
            raise self._call.lost(self._received)
        self._received += len(chunk)
        end = chunk.find(b"\n")
        if end < 0:
            self._chunks.append(chunk)
            return
        self._spare = end + 1 < len(chunk)
        self._chunks.append(chunk[:end])
        self._line = b"".join(self._chunks)
        self._chunks.clear()
        self.connection.answered = True


def with_wait(seconds: float | None, call: wire.Call) -> float | None:
    """A limit that leaves a person the time that ``call`` waits for one."""
    return None if seconds is None else seconds + call.wait


def checked_timeout(seconds: Timeout, default: float | None = None) -> float | None:
    """``seconds`` as a limit, None for no limit, ``default`` for ``...``. Raises InvalidRequest."""
    if isinstance(seconds, type(...)):
        return default
    if seconds is None:
        return None
    if not isinstance(seconds, int | float) or not seconds > 0:  # "not >" refuses NaN as well
        raise InvalidRequest(f"a timeout is a positive number of seconds, or None for no limit; not {seconds!r}")
    return float(seconds) if seconds < _YEARS else None
