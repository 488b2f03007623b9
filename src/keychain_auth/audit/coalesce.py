"""Which refusals get a line of their own in the audit log, so that nobody ends its history by asking. Pure.

Contract:
* The first of several identical refusals (all fields but the pid) is a line at once. Those that follow are counted, and
  the count becomes a line after ``every`` seconds.
* Lines about refusals share a budget: a store of ``budget`` bytes that fills up again in an hour. What exceeds it is
  counted too, and told in one line each ``every`` seconds, by reason, with some of the programs: action ``refusals``.
* So every refusal is on record, by itself or in a count, and the log grows by little more than ``budget`` bytes an hour
  on their account, whatever is asked and by how many programs.

What it does not promise: that counts survive a kill. They are in memory until their line is due.

Sizes in bytes; times in seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

import msgspec

from keychain_auth.audit.record import AuditRecord, encode

OVERFLOW = "refusals"
_MOST_KINDS = 1024
_NAMED = 10  # programs named in the line about the rest
_NAME_CHARS = 200
_HOUR = 3600.0
_LINE_BYTES = 120  # timestamp, seq, chain


class _Kind:
    """Identical refusals: the last of them, how many were not written, since when."""

    __slots__ = ("count", "last", "since")

    def __init__(self, record: AuditRecord, now: float) -> None:
        self.last = record
        self.count = 0
        self.since = now


class Coalescer:
    """See above."""

    def __init__(self, *, every: float, budget: int) -> None:
        self._every = every
        self._budget = float(budget)
        self._left = float(budget)
        self._filled = 0.0
        self._kinds: dict[bytes, _Kind] = {}
        self._rest: Counter[str] = Counter()
        self._rest_programs: dict[str, None] = {}
        self._rest_since = 0.0

    def note(self, record: AuditRecord, now: float) -> bool:
        """True if ``record`` is to be written now; else it is counted."""
        line = encode(msgspec.structs.replace(record, pid=None))
        key = blake2b(line, digest_size=16).digest()
        kind = self._kinds.get(key)
        if kind is not None:
            kind.count += 1
            kind.last = record
            return False
        if len(self._kinds) < _MOST_KINDS and self._afford(len(line), now):
            self._kinds[key] = _Kind(record, now)
            return True
        self._count_in_the_rest(record, 1, now)
        return False

    def due(self, now: float, *, all_of_them: bool = False) -> list[AuditRecord]:
        """The lines about what was counted long enough ago; the counts begin anew."""
        lines = []
        for key, kind in list(self._kinds.items()):
            if not all_of_them and now - kind.since < self._every:
                continue
            if not kind.count:
                del self._kinds[key]
                continue
            summary = _summary(kind.last, kind.count, now - kind.since)
            if self._afford(len(encode(summary)), now):
                lines.append(summary)
            else:
                self._count_in_the_rest(kind.last, kind.count, kind.since)
            kind.count, kind.since = 0, now
        if self._rest and (all_of_them or now - self._rest_since >= self._every):
            lines.append(self._about_the_rest(now))
        return lines

    def _afford(self, size: int, now: float) -> bool:
        self._left = min(self._budget, self._left + (now - self._filled) * self._budget / _HOUR)
        self._filled = now
        if self._left < size + _LINE_BYTES:
            return False
        self._left -= size + _LINE_BYTES
        return True

    def _count_in_the_rest(self, record: AuditRecord, count: int, since: float) -> None:
        self._rest_since = min(since, self._rest_since) if self._rest else since
        self._rest[record.reason or "no reason"] += count
        program = (record.script_path or record.binary_path or "unknown")[:_NAME_CHARS]
        if len(self._rest_programs) <= _NAMED:
            self._rest_programs[program] = None

    def _about_the_rest(self, now: float) -> AuditRecord:
        by_reason = ", ".join(f"{count} {reason}" for reason, count in self._rest.most_common())
        programs = list(self._rest_programs)
        named = ", ".join(programs[:_NAMED]) + (" and others" if len(programs) > _NAMED else "")
        record = AuditRecord(
            action=OVERFLOW,
            pid=None,
            binary_path=None,
            binary_hash=None,
            service=None,
            targets=(),
            result="DENIED",
            reason=None,
            detail=f"in {now - self._rest_since:.0f} s, too many to be told apart: {by_reason}; of {named}",
            count=sum(self._rest.values()),
        )
        self._rest.clear()
        self._rest_programs.clear()
        return record


def _summary(last: AuditRecord, count: int, seconds: float) -> AuditRecord:
    """As ``last``, with the count. The pid is that of the last one."""
    times = "once more" if count == 1 else f"{count} times more"
    told = f"{last.detail} " if last.detail else ""
    return msgspec.structs.replace(last, count=count, detail=f"{told}({times} in {seconds:.0f} s)")
