"""What a report shows of an audit log: counts, a timeline, who asked most, who asked for the first time. Pure.

Contract: one pass, memory by the number of different programs, services and minutes, never by the number of lines.
Counted are requests of programs and of people: what the daemon and the log say of themselves is not, nor is a
connection that was only opened. A line that counts refusals counts as so many.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from keychain_auth.audit.query import count_of, hash_of, program_of, seconds_of
from keychain_auth.audit.reading import Line

CANARY = "canary"
"""The action of a line that says that somebody read a canary."""

_STEPS = (60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600, 28 * 24 * 3600)  # seconds
_MOST_BUCKETS = 80
_SHOWN = 12
_NEWEST = 60
_MINUTE = 60
_COUNTED = ("GRANTED", "DENIED", "ERROR")


class Counts(msgspec.Struct):
    """How often."""

    granted: int = 0
    denied: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.granted + self.denied + self.failed

    def add(self, result: object, times: int) -> None:
        """Count a result."""
        if result == "GRANTED":
            self.granted += times
        elif result == "DENIED":
            self.denied += times
        else:
            self.failed += times


class FirstSeen(msgspec.Struct, frozen=True):
    """A program that was not on record before: ``hash`` is "" where it was refused before it was known."""

    path: str
    hash: str
    when: str
    result: str
    reason: str


class Summary(msgspec.Struct):
    """``buckets`` has a Counts for each ``step`` seconds from ``start`` on (seconds since the epoch), none left out.
    ``programs``, ``services``: the busiest first. ``reasons``: the most frequent first. The lists of lines have the
    newest first."""

    lines: int
    unreadable: int
    first: str
    last: str
    counts: Counts
    start: float
    step: int
    buckets: list[Counts]
    programs: list[tuple[str, Counts]]
    services: list[tuple[str, Counts]]
    reasons: list[tuple[str, int]]
    first_seen: list[FirstSeen]
    refusals: list[Line]
    canaries: list[Line]


def summarise(lines: Iterable[Line]) -> Summary:
    """The summary of these lines, the oldest first."""
    number = unreadable = 0
    first = last = ""
    counts = Counts()
    minutes: dict[int, Counts] = {}
    programs: dict[str, Counts] = {}
    services: dict[str, Counts] = {}
    reasons: Counter[str] = Counter()
    seen: dict[tuple[str, str], FirstSeen] = {}
    refusals: deque[Line] = deque(maxlen=_NEWEST)
    canaries: deque[Line] = deque(maxlen=_NEWEST)
    for line in lines:
        number += 1
        if "unparsable" in line:
            unreadable += 1
            continue
        stamp, result = str(line.get("timestamp") or ""), line.get("result")
        first, last = first or stamp, stamp
        path, times = program_of(line), count_of(line)
        if line.get("action") == CANARY:
            canaries.append(line)
        if path and not str(line.get("action")).startswith("admin_"):
            key = path, hash_of(line)
            if key not in seen:
                seen[key] = FirstSeen(*key, stamp, str(result), str(line.get("reason") or ""))
        if not _is_request(line):
            continue
        for tally in (counts, *_tallies(line, path, minutes, programs, services)):
            tally.add(result, times)
        if result != "GRANTED":
            reasons[str(line.get("reason") or "none given")] += times
            refusals.append(line)
    start, step, buckets = _timeline(minutes)
    return Summary(
        lines=number, unreadable=unreadable, first=first, last=last, counts=counts,
        start=start, step=step, buckets=buckets,
        programs=_busiest(programs), services=_busiest(services), reasons=reasons.most_common(_SHOWN),
        first_seen=list(seen.values())[::-1][:_NEWEST], refusals=list(refusals)[::-1], canaries=list(canaries)[::-1],
    )  # fmt: skip


def _is_request(line: Line) -> bool:
    if line.get("result") not in _COUNTED or (line.get("pid") is None and not line.get("count")):
        return False
    return not (line.get("action") == "connect" and line.get("result") == "GRANTED")


def _tallies(
    line: Line, path: str, minutes: dict[int, Counts], programs: dict[str, Counts], services: dict[str, Counts]
) -> list[Counts]:
    """What the line counts for, beside the whole."""
    found = []
    moment = seconds_of(line)
    if moment is not None:
        found.append(minutes.setdefault(int(moment // _MINUTE), Counts()))
    if path:
        found.append(programs.setdefault(path, Counts()))
    if line.get("service"):
        found.append(services.setdefault(str(line["service"]), Counts()))
    return found


def _timeline(minutes: dict[int, Counts]) -> tuple[float, int, list[Counts]]:
    """Where it begins, how many seconds a bucket has, and the buckets; no more of them than a page can show."""
    if not minutes:
        return 0.0, _STEPS[0], []
    low, high = min(minutes) * _MINUTE, max(minutes) * _MINUTE
    step = next((step for step in _STEPS if high // step - low // step < _MOST_BUCKETS), _STEPS[-1])
    # A clock that once stood in 1970 must not make a million buckets of it: what is older is in the first one.
    low = max(low, high - step * (_MOST_BUCKETS - 1))
    begin = low // step
    buckets = [Counts() for _ in range(high // step - begin + 1)]
    for minute, counts in minutes.items():
        bucket = buckets[max(0, minute * _MINUTE // step - begin)]
        bucket.granted += counts.granted
        bucket.denied += counts.denied
        bucket.failed += counts.failed
    return float(begin * step), step, buckets


def _busiest(tallies: dict[str, Counts]) -> list[tuple[str, Counts]]:
    return sorted(tallies.items(), key=lambda named: (-named[1].total, named[0]))[:_SHOWN]
