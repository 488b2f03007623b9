"""How much each owner stores, and room for more: what keeps one user of a machine from filling its disk and memory.

Contract:
* A write happens inside ``room``: if what is stored and what is to be stored do not fit together, QuotaExceeded, and
  nothing is written. Writes that are under way count, so writing side by side gets nobody more.
* What is stored is counted from above: a secret that is written again counts twice until all is measured anew.
  Measuring takes time (each secret is looked at), so it is done when the count from above does not fit, and for a
  twentieth of the time at most: who is at the limit waits, and nobody else does.

What it does not promise: earlier values, which come on top (``vault.history``: so many for each secret), and what lies
in keychains that cannot be measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from keychain_auth.errors import KeychainError
from keychain_auth.reasons import RATE_LIMITED

_TIMES_AS_LONG = 20
_REMEMBERED = 256  # owners; who writes again is measured again

Measure = Callable[[str, str, Sequence[str]], Awaitable[tuple[int, int]]]
"""Number and bytes of what an owner stores, without these targets of this service. What is written while it is measured
may be counted or not. Raises KeychainError."""


class QuotaExceeded(KeychainError):
    """A user stores as much as one user may."""

    reason = RATE_LIMITED


class _Stored:
    """Of one owner: an upper bound of what is there, and what of it is still being written."""

    __slots__ = ("bytes", "count", "known", "lock", "next", "writing_bytes", "writing_count")

    def __init__(self) -> None:
        self.count = self.bytes = self.writing_count = self.writing_bytes = 0
        self.lock = asyncio.Lock()
        self.known = False
        self.next = 0.0


class Quota:
    """Belongs to the event loop. ``secrets`` and ``stored_bytes``: of each owner."""

    def __init__(
        self, measure: Measure, secrets: int, stored_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._measure = measure
        self._secrets = secrets
        self._bytes = stored_bytes
        self._clock = clock
        self._known: dict[str, _Stored] = {}

    @asynccontextmanager
    async def room(
        self, owner: str, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str]
    ) -> AsyncIterator[None]:
        """Write ``entries`` inside. Raises QuotaExceeded if they do not fit beside what ``owner`` stores."""
        stored, count, size = self._of(owner), len(entries), size_of(entries, attributes)
        if not self._fits(stored, count, size):
            async with stored.lock:
                await asyncio.sleep(max(0.0, stored.next - self._clock()))
                await self._measure_anew(owner, stored, service, [target for target, _ in entries])
            self._require(stored, count, size)
        stored.count += count
        stored.bytes += size
        stored.writing_count += count
        stored.writing_bytes += size
        try:
            yield
        except BaseException:
            stored.known = False  # what it would have replaced is still there
            raise
        finally:
            stored.writing_count -= count
            stored.writing_bytes -= size

    def _of(self, owner: str) -> _Stored:
        stored = self._known.get(owner)
        if stored is None:
            for name, each in list(self._known.items()):
                if len(self._known) < _REMEMBERED:
                    break
                if not each.writing_count and not each.lock.locked():
                    del self._known[name]
            stored = self._known[owner] = _Stored()
        return stored

    def _fits(self, stored: _Stored, count: int, size: int) -> bool:
        return stored.known and stored.count + count <= self._secrets and stored.bytes + size <= self._bytes

    def _require(self, stored: _Stored, count: int, size: int) -> None:
        if not self._fits(stored, count, size):
            stored.known = False
            raise QuotaExceeded(
                f"its user stores {stored.count} other secrets of {stored.bytes} bytes, and {count} of {size} are too "
                f"many: a user may have {self._secrets}, of {self._bytes} bytes",
                hint="remove what is not needed, or raise secrets or stored_bytes under [users] in daemon.toml",
            )

    async def _measure_anew(self, owner: str, stored: _Stored, service: str, targets: Sequence[str]) -> None:
        """What was being written when it began, and what was begun meanwhile, is added: it may not have been seen."""
        began, base_count, base_bytes = self._clock(), stored.count, stored.bytes
        count, size = stored.writing_count, stored.writing_bytes
        measured = await self._measure(owner, service, targets)
        stored.count = measured[0] + count + stored.count - base_count
        stored.bytes = measured[1] + size + stored.bytes - base_bytes
        stored.known = True
        now = self._clock()
        stored.next = now + _TIMES_AS_LONG * (now - began)


def size_of(entries: Sequence[tuple[str, str]], attributes: Mapping[str, str]) -> int:
    """Bytes of these secrets as they count: target, value, attributes."""
    each = sum(len(name.encode()) + len(text.encode()) for name, text in attributes.items())
    return sum(len(target.encode()) + len(value.encode()) + each for target, value in entries)
