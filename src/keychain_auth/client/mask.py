"""``run --mask``: what a command prints, with the values of its secrets taken out.

Contract: the command runs as a child; its standard output and error go through this process, and wherever one of the
values stands there, ``********`` stands instead, also where the value came in pieces. All else passes as it is, byte
for byte, as soon as it can no longer be the beginning of a value. Standard input, the exit code, and an end by a signal
are the command's own; SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are passed on.

What it does not promise: a value that is printed in another form (base64, reversed, escaped, a part of it) is not
found, nor is one that begins inside of another: what stands beyond the first one's end is shown. It is against
accidents in a log. And the price: the command's output is a pipe, not a terminal, it is a child of this process, and
job control is between the two.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from keychain_auth.errors import KeychainAuthError

MASK = b"********"
_CHUNK = 64 * 1024
_PASSED_ON = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")  # names: Windows has not all, and no ``run``
# From a terminal these reach the whole foreground group, the command too: this process outlives it, for its exit code.
_LEFT_TO_IT = ("SIGINT", "SIGQUIT")


class Masker:
    """One stream. ``values``: empty ones are nothing that could be found."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._values = sorted({value for value in values if value}, key=len, reverse=True)
        self._longest = len(self._values[0]) if self._values else 0
        self._pattern = re.compile(b"|".join(map(re.escape, self._values))) if self._values else None
        self._beginning = re.compile(b"|".join({re.escape(value[:1]) for value in self._values}))
        self._held = b""

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """What may be shown now; ``last``: nothing follows."""
        text = self._held + data
        if self._pattern is None:
            return text
        pieces, at = [], 0
        limit = len(text) if last else self._open_end(text)
        while (found := self._pattern.search(text, at)) is not None and found.start() < limit:
            if not last and found.end() == len(text) and self._could_grow(text[found.start() :]):
                limit = found.start()  # a longer value may begin in the same way
                break
            pieces += [text[at : found.start()], MASK]
            at = found.end()
            limit = max(limit, at)
        self._held = text[limit:] if limit >= at else b""
        pieces.append(text[at:limit])
        return b"".join(pieces)

    def _could_grow(self, tail: bytes) -> bool:
        return any(len(value) > len(tail) and value.startswith(tail) for value in self._values)

    def _open_end(self, text: bytes) -> int:
        """Where what may be the beginning of a value begins."""
        at = max(0, len(text) - self._longest + 1)
        while (found := self._beginning.search(text, at)) is not None:
            at = found.start()
            if self._could_grow(text[at:]):
                return at
            at += 1
        return len(text)


def run_masked(program: str, command: Sequence[str], environment: Mapping[bytes, bytes], values: Iterable[str]) -> int:
    """Run the command to its end; its exit code. Ends as it ended, by a signal too. Raises KeychainAuthError."""
    try:
        child = subprocess.Popen(
            list(command), executable=program, env=environment, close_fds=False, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
    except OSError as error:
        raise KeychainAuthError(f"nothing was started: {program}: {error.strerror}") from None
    for name in _LEFT_TO_IT:
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    for name in _PASSED_ON:
        signal.signal(signal.Signals[name], lambda which, _: child.send_signal(which))
    known = [value.encode() for value in values]
    assert child.stdout is not None  # noqa: S101 - asked for above
    assert child.stderr is not None  # noqa: S101
    _relay({child.stdout.fileno(): (1, Masker(known)), child.stderr.fileno(): (2, Masker(known))})
    code = child.wait()
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _relay(streams: dict[int, tuple[int, Masker]]) -> None:
    """From each descriptor to its own, until all have ended."""
    poll = select.poll()
    for source in streams:
        poll.register(source, select.POLLIN)
    while streams:
        for source, _ in poll.poll():
            target, masker = streams[source]
            data = os.read(source, _CHUNK)
            _write(target, masker.feed(data, last=not data))
            if not data:
                poll.unregister(source)
                del streams[source]


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BrokenPipeError:  # nobody listens any more; the command is not to be stopped by that
            return
