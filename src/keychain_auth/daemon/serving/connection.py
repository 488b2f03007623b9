"""One connection: bytes in, lines to a handler, answers out in order, within the limits.

Why not asyncio's transports or streams: they read with recv(2), which drops the credentials that the kernel attaches to
each piece of data. Here ``recvmsg`` keeps them, and every piece must come from the process that connected.

Order and flow: lines wait in a queue; one is answered at a time; while an answer waits for the disk, or the client does
not take what was sent, nothing more is read from that client (the kernel's buffer fills, and the client waits). So one
connection holds at most a piece of input, and one answer more than the client has taken.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from keychain_auth.daemon.serving import eager
from keychain_auth.daemon.serving.handler import Handler, Reply
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.platform.base import Channel, Readiness
from keychain_auth.wire.framing import LineSplitter, LineTooLong
from keychain_auth.wire.messages import Limits

_LINGER_SECONDS = 2.0
_LISTENING_SECONDS = 1.0  # who is refused and asks nothing only listens; who asks has done so by then
_BATCH_BYTES = 256 * 1024  # answers gathered into one send
_SENT_AT_ONCE = 1024 * 1024
_BATCH_LINES = 64  # then the others have their turn
_NOTHING = memoryview(b"")
_NEWLINE = 0x0A  # a number: see ``wire.codec``


class Connection:
    """Drives one channel, from ``begin`` on. It may stay silent for ``first_patience`` seconds until it asks, then for
    ``patience``."""

    __slots__ = (
        "_answer", "_answering", "_asked", "_channel", "_closed", "_distrust", "_ended", "_fd", "_first_patience",
        "_handler", "_input_over", "_last", "_limits", "_line_began", "_line_bytes", "_lines", "_lingering", "_loop",
        "_moved", "_patience", "_put", "_readiness", "_reading", "_receive", "_received", "_respond", "_splitter",
        "_turn", "_unsent", "_watched",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        readiness: Readiness,
        turn: Turn,
        channel: Channel,
        handler: Handler,
        limits: Limits,
        patience: float,
        first_patience: float,
        ended: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._readiness = readiness
        self._turn = turn
        self._channel = channel
        self._handler = handler
        self._distrust = handler.distrust
        self._respond = handler.respond
        self._receive = channel.receive
        self._put = channel.send
        self._received = turn.received.append
        self._answer = turn.answers.append
        self._line_bytes = limits.line_bytes
        self._limits = limits
        self._patience = patience
        self._first_patience = first_patience
        self._ended = ended
        self._fd = channel.fileno()
        self._splitter = LineSplitter(limits.line_bytes)
        self._lines: deque[bytes] = deque()
        self._unsent = _NOTHING
        self._answering = False  # an answer is being made and waits for something
        self._asked = False
        self._input_over = False
        self._last = False  # the last answer is queued
        self._lingering = False
        self._closed = False
        self._line_began = 0.0
        self._moved = time.monotonic()
        self._reading, self._watched = True, False

    # --- input --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take at once what was sent until now, and be told of what is sent later: nearly every program asks as soon as
        it is connected, and to wait until that is reported costs another round of the loop."""
        try:
            self._turn.serve((self._readable,))
        finally:  # only now: who waits for an answer need not wait for this too
            if self._reading:
                self._watch()

    def _readable(self) -> None:
        if not self._reading:
            self._unwatch()
            return
        try:
            data, sender = self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if data and not self._lingering:
            self._received((self, data, sender))
        elif self._lingering:
            if not data:
                self.close()
        else:
            self._end_of_input()

    def act(self, data: bytes, sender: int | None) -> None:
        """Do what was received, once everybody of the turn has received. Part of a turn."""
        self._moved = time.monotonic()
        if why := self._distrust(sender):
            self._finish(self._handler.impostor(why))
            return
        line = data[:-1]
        whole = _NEWLINE not in line and data[-1] == _NEWLINE and len(line) < self._line_bytes
        if whole and self._reading and not self._line_began:
            self._answer_line(line)  # one whole line, and nothing before it: nearly always
            return
        try:
            lines = self._splitter.feed(data)
        except LineTooLong:
            self._finish(self._handler.overlong())
            return
        if not self._splitter.unfinished:
            self._line_began = 0.0
        elif lines or not self._line_began:
            self._line_began = self._moved
        self._lines.extend(lines)
        self._answer_lines()

    def _end_of_input(self) -> None:
        """The client closed, or shut down its sending side: what it asked is still answered; a rest without newline
        was never a request."""
        self._input_over = True
        self._read_on(False)
        self._close_if_done()

    def _read_on(self, wanted: bool) -> None:
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                if self._line_began:
                    self._line_began = time.monotonic()  # the clock of a line runs only while we take its bytes
                self._watch()
            # Else it is watched until more comes: nearly always the answer is there before.

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._readiness.add(self._fd, self._readable)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._readiness.remove(self._fd)

    # --- answers ------------------------------------------------------------------------------

    def _answer_line(self, line: bytes) -> None:
        """As ``_answer_lines``, for one line on a connection where nothing waits. Part of a turn."""
        self._asked = True
        answer = self._respond(line)
        if isinstance(answer, bytes):
            self._answer((self, [answer]))
            return
        if isinstance(answer, Reply):
            self._last = answer.last
            self._answer((self, [answer.line]))
            return
        self._answering = True
        reply = eager.run(self._loop, answer, self._answered)
        answers = self._turn.answers_of(self)  # also when there is none yet: the end of the turn pauses the reading
        if reply is None:
            self._turn.waits = True
        else:
            self._answering = False
            self._last = reply.last
            answers.append(reply.line)

    def _answer_lines(self) -> None:
        """Answer queued lines, until one has to wait or the client has enough to take. Part of a turn."""
        if self._answering or self._unsent or self._closed:
            return
        answers = self._turn.answers_of(self)
        size = 0
        while self._lines and not self._last and size < _BATCH_BYTES and len(answers) < _BATCH_LINES:
            self._answering = self._asked = True
            try:
                answer = self._respond(self._lines.popleft())
                if isinstance(answer, bytes):
                    answer = Reply(answer)
                reply = answer if isinstance(answer, Reply) else eager.run(self._loop, answer, self._answered)
            except Exception as fault:  # noqa: BLE001 - a fault of ours ends this connection, and no other
                self.give_up(fault)
                return
            if reply is None:
                break
            self._answering = False
            self._last = reply.last
            answers.append(reply.line)
            size += len(reply.line)

    def _answered(self, task: asyncio.Future[Reply]) -> None:
        """An answer that had to wait is there."""
        self._answering = False
        if task.cancelled() or self._closed:
            self.close()
            return
        if (fault := task.exception()) is not None:
            self.give_up(fault)
            return
        reply = task.result()
        self._last = reply.last
        self._moved = time.monotonic()
        # Outside of any turn: what it rests on was recorded when it was done, and no other record may take it back.
        self.transmit([reply.line])

    def give_up(self, fault: BaseException) -> None:
        """A fault of the daemon's own: it is reported, nothing more is answered, and the client sees the end."""
        self._loop.call_exception_handler({"message": "a request could not be answered", "exception": fault})
        self.close()

    def _finish(self, reply: Reply) -> None:
        """Say one last thing and close, whatever else was queued. Part of a turn."""
        self._lines.clear()
        self._last = True
        self._turn.answers_of(self).append(reply.line)

    def transmit(self, lines: list[bytes]) -> None:
        """The end of a turn: send its answers, and see how to go on."""
        if self._closed:
            return
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        if self._unsent:
            self._unsent = memoryview(b"".join((self._unsent, data)))
        elif data:
            try:
                sent = self._put(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self.close()
                return
            if sent != len(data):
                self._unsent = memoryview(data)[sent:]  # not copied: the others would wait for it
                self._loop.add_writer(self._fd, self._writable)
        if not self._reading or self._lines or self._answering or self._unsent or self._last:
            self._pause_or_resume()

    def _writable(self) -> None:
        try:
            sent = self._put(self._unsent[:_SENT_AT_ONCE])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        self._moved = time.monotonic()
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._unsent = _NOTHING  # and not an empty view of the whole answer
            self._loop.remove_writer(self._fd)
            self._go_on()

    # --- flow and end -------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Answer what is queued, and read again once nothing is."""
        if self._lines:
            self._turn.run(self._answer_lines)
        else:
            self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        """Read on only when everything before is answered and taken."""
        self._close_if_done()
        if self._closed or self._lingering:
            return
        waiting = self._answering or bool(self._unsent)
        if self._lines and not waiting:
            self._loop.call_soon(self._go_on)
        self._read_on(not (waiting or self._lines or self._input_over))

    def _close_if_done(self) -> None:
        if self._answering or self._unsent or self._closed or self._lingering:
            return
        if self._last:
            self._linger()
        elif self._input_over and not self._lines:
            self.close()

    def _linger(self) -> None:
        """Let the client read the last answer: closing on unread input would reset the connection and may lose it."""
        if self._input_over:
            self.close()
            return
        self._lingering = True
        self._moved = time.monotonic()
        self._channel.end_output()
        self._read_on(True)

    def expire(self, now: float) -> bool:
        """Close if a deadline passed; called about once a second. True if it was closed."""
        silent, limits = now - self._moved, self._limits
        if self._answering:
            return False  # the daemon's turn, not the client's
        if not self._asked and not self._last and silent > _LISTENING_SECONDS and (reply := self._handler.unasked()):
            self._turn.run(lambda: self._finish(reply))
            return self._closed
        patience = limits.idle_seconds if self._handler.admitted else self._patience
        if (
            (self._lingering and silent > _LINGER_SECONDS)
            or (self._reading and self._line_began and now - self._line_began > limits.unfinished_line_seconds)
            or (len(self._unsent) > limits.unread_answer_bytes and silent > limits.unfinished_line_seconds)
            or silent > (patience if self._asked else self._first_patience)
        ):
            self.close()
            return True
        return False

    @property
    def admitted(self) -> bool:
        """Whether its handler serves it, and does not only refuse it."""
        return self._handler.admitted

    @property
    def silence(self) -> tuple[bool, float] | None:
        """Orders connections by who may give way first: those that never asked, then by the time of the last move.

        None for one whose answer is being made: it is the daemon that is silent.
        """
        return None if self._answering else (self._asked, self._moved)

    def stop(self) -> None:
        """The daemon ends: answer what was sent until now, take no more.

        Whoever sends later is told by the kernel that it was not taken, so it can be sent to the next daemon.
        """
        if self._closed:
            return
        if self._lingering:
            self.close()
            return
        self._channel.end_input()

    def cut(self) -> None:
        """There is no time for all of that: finish the answer that is being made, and drop the rest."""
        if self._closed:
            return
        self._lines.clear()
        self._input_over = True
        self._read_on(False)
        self._close_if_done()

    def close(self) -> None:
        """End it now. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._reading = False
        self._unwatch()
        if self._unsent:
            self._loop.remove_writer(self._fd)
        self._channel.close()
        self._handler.close()
        self._ended(self)
