"""A small fuzzer: mutates inputs, and keeps those that lead to lines of the package that no input led to before.

Contract: a *target* is a name, seeds, and a function that raises AssertionError for what must never be, and anything
else for what the code under test must never raise. ``Fuzzer.run`` raises ``Find`` with the input that did it. With the
same seed it does the same, as far as the target does.

What it does not promise: to find what a fuzzer with a compiler's coverage would find in C. msgspec, OpenSSL and SQLite
have their own; here the subject is what this package makes of what they say.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NamedTuple

import keychain_auth

_PACKAGE = os.path.dirname(os.path.abspath(keychain_auth.__file__))
_MOST_CORPUS = 2000
_LONGEST = 1 << 20
_NUMBERS = [0, 1, 2, 7, 8, 15, 16, 31, 32, 63, 64, 100, 127, 128, 129, 254, 255]


class Target(NamedTuple):
    """What is fuzzed: ``check`` takes an input, ``words`` are what inputs of this kind are made of."""

    name: str
    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()


class Find(Exception):
    """An input that must not do what it does."""

    def __init__(self, target: str, data: bytes, cause: BaseException) -> None:
        super().__init__(f"{target}: {type(cause).__name__}: {cause}")
        self.target = target
        self.data = data


class Fuzzer:
    """One target's corpus, and how far it has got."""

    def __init__(self, target: Target, seed: int) -> None:
        self.target = target
        self.tries = 0
        self.lines: set[tuple[str, int]] = set()
        self._random = random.Random(f"{target.name} {seed}")
        self._corpus: list[bytes] = []
        for data in target.seeds:
            self._try(data)
        self._corpus = list(dict.fromkeys([*target.seeds, *self._corpus]))

    def run(self, seconds: float) -> None:
        """Try inputs for so long. Raises Find."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._try(self._mutated())

    def _try(self, data: bytes) -> None:
        self.tries += 1
        known = len(self.lines)
        tracer, local = self._tracer()
        before = sys.gettrace()  # a debugger, or coverage
        sys.settrace(tracer)
        threading.settrace(local)
        try:
            self.target.check(data)
        except BaseException as cause:
            sys.settrace(before)
            raise Find(self.target.name, data, cause) from cause
        finally:
            sys.settrace(before)
            threading.settrace(None)  # type: ignore[arg-type]
        if len(self.lines) > known:
            self._corpus.append(data)
            if len(self._corpus) > _MOST_CORPUS:
                del self._corpus[self._random.randrange(len(self._corpus))]

    def _tracer(self) -> tuple[Any, Any]:
        lines = self.lines

        def inside(frame: FrameType, event: str, argument: object) -> Any:
            lines.add((frame.f_code.co_filename, frame.f_lineno))
            return inside

        def call(frame: FrameType, event: str, argument: object) -> Any:
            return inside if frame.f_code.co_filename.startswith(_PACKAGE) else None

        return call, call

    # --- mutations ----------------------------------------------------------------------------

    def _mutated(self) -> bytes:
        chance = self._random
        data = bytearray(chance.choice(self._corpus))
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5, 9))):
            chance.choice(_MUTATIONS)(self, data)
            del data[_LONGEST:]
        return bytes(data)

    def _at(self, data: bytearray) -> int:
        return self._random.randrange(len(data) + 1)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] = self._random.choice(_NUMBERS)

    def _cut(self, data: bytearray) -> None:
        start = self._at(data)
        del data[start : start + self._random.choice((1, 2, 4, 16, 100, 5000))]

    def _end(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _repeat(self, data: bytearray) -> None:
        start = self._at(data)
        piece = data[start : start + self._random.choice((1, 3, 10, 60, 4096))]
        at = self._at(data)
        data[at:at] = piece * self._random.choice((1, 1, 1, 2, 50))

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._corpus)
        start = self._random.randrange(len(other) + 1)
        piece = other[start : start + self._random.choice((1, 8, 40, 300, 4096, 70000))]
        at = self._at(data)
        end = at + self._random.choice((0, len(piece)))
        data[at:end] = piece

    def _word(self, data: bytearray) -> None:
        if self.target.words:
            word = self._random.choice(self.target.words)
            at = self._at(data)
            data[at : at + self._random.choice((0, len(word)))] = word

    def _exchange(self, data: bytearray) -> None:
        """One word in the place of another."""
        present = [word for word in self.target.words if word in data]
        if present:
            word, other = self._random.choice(present), self._random.choice(self.target.words)
            at = data.find(word, self._at(data))
            at = data.find(word) if at < 0 else at
            data[at : at + len(word)] = other

    def _integer(self, data: bytearray) -> None:
        if len(data) > 8:
            at = self._random.randrange(len(data) - 8)
            size = self._random.choice((2, 4, 8))
            number = self._random.choice((0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**63, len(data)))
            data[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, "big")


_MUTATIONS = (
    Fuzzer._flip,
    Fuzzer._flip,
    Fuzzer._set,
    Fuzzer._cut,
    Fuzzer._cut,
    Fuzzer._end,
    Fuzzer._repeat,
    Fuzzer._splice,
    Fuzzer._splice,
    Fuzzer._word,
    Fuzzer._word,
    Fuzzer._exchange,
    Fuzzer._exchange,
    Fuzzer._integer,
)
