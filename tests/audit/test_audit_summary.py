"""What a report counts, and how it cuts time into bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from keychain_auth.audit.summary import Counts, summarise

START = datetime(2026, 5, 21, tzinfo=UTC)


def line(minutes: float = 0, **fields: Any) -> dict[str, object]:
    stamp = (START + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "timestamp": stamp, "action": "read", "pid": 4, "binary_path": "/bin/a", "binary_hash": "sha256:1",
        "service": "aws", "targets": [], "result": "GRANTED", "reason": None, **fields,
    }  # fmt: skip


def test_requests_are_counted_and_what_the_daemon_says_of_itself_is_not() -> None:
    found = summarise(
        [
            line(action="daemon_start", pid=None, binary_path=None, service=None),
            line(action="connect", service=None),
            line(),
            line(result="DENIED", reason="service_not_allowed", service="gh"),
            line(result="DENIED", reason="service_not_allowed", service="gh", count=9, pid=None),
            line(result="ERROR", reason="internal_error", binary_path="/bin/b"),
            {"unparsable": "x"},
        ]
    )
    assert found.counts == Counts(1, 10, 1)
    assert found.programs == [("/bin/a", Counts(1, 10, 0)), ("/bin/b", Counts(0, 0, 1))]
    assert found.services == [("gh", Counts(0, 10, 0)), ("aws", Counts(1, 0, 1))]
    assert found.reasons == [("service_not_allowed", 10), ("internal_error", 1)]
    assert (found.lines, found.unreadable, len(found.refusals)) == (7, 1, 3)


def test_a_program_is_new_when_its_path_or_its_hash_is() -> None:
    found = summarise([line(), line(1), line(2, binary_hash="sha256:2"), line(3, binary_path="/bin/b")])
    assert [(one.path, one.hash, one.when[14:16]) for one in found.first_seen] == [
        ("/bin/b", "sha256:1", "03"), ("/bin/a", "sha256:2", "02"), ("/bin/a", "sha256:1", "00"),
    ]  # fmt: skip


def test_bars_cover_the_time_without_a_gap_and_lose_nothing() -> None:
    for minutes in (0, 3, 200, 5000, 300_000):
        found = summarise([line(), line(minutes, result="DENIED"), line(minutes)])
        assert len(found.buckets) <= 80
        assert sum(bucket.total for bucket in found.buckets) == 3
        assert found.buckets[-1].denied == 1
        end = found.start + found.step * len(found.buckets)
        assert found.start <= START.timestamp() and end > START.timestamp() + 60 * minutes


def test_a_clock_that_once_stood_in_1970_makes_no_million_bars() -> None:
    found = summarise([line(timestamp="1970-01-01T00:00:01.000000Z"), line()])
    assert len(found.buckets) <= 80
    assert sum(bucket.total for bucket in found.buckets) == 2


def test_nothing_is_a_summary_too() -> None:
    found = summarise([])
    assert (found.lines, found.buckets, found.counts.total) == (0, [], 0)


def test_fields_of_other_types_break_nothing() -> None:
    odd = line(timestamp=7, service=["x"], targets="no list", reason={"a": 1}, result=None, pid="x", seq="y")
    assert summarise([odd, {**odd, "result": "DENIED"}]).counts == Counts(0, 1, 0)
