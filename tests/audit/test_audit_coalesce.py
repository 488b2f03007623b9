"""Refusals share a budget: told at once, counted when repeated, and the log's history outlives any number of them."""

from __future__ import annotations

from typing import Any

import msgspec

from keychain_auth.audit.coalesce import OVERFLOW, Coalescer
from keychain_auth.audit.record import AuditRecord, encode

HOUR = 3600.0


def refusal(path: str = "/usr/bin/evil", pid: int = 1, **fields: Any) -> AuditRecord:
    record = AuditRecord(
        action="connect", pid=pid, uid=1000, binary_path=path, binary_hash="sha256:aa", service=None, targets=(),
        result="DENIED", reason="unregistered_binary_pending_approval", detail="no entry for this path",
    )  # fmt: skip
    return msgspec.structs.replace(record, **fields)


def test_the_first_is_told_at_once_and_the_others_as_a_count() -> None:
    coalescer = Coalescer(every=60, budget=100_000)
    told = [coalescer.note(refusal(pid=pid), now=1.0) for pid in range(1, 101)]
    assert told == [True] + [False] * 99
    assert coalescer.due(now=60.9) == []
    [summary] = coalescer.due(now=61.0)
    assert summary == refusal(pid=100, count=99, detail="no entry for this path (99 times more in 60 s)")
    assert not coalescer.note(refusal(), now=62.0)  # still the same flood: counted, not told anew
    [summary] = coalescer.due(now=121.0)
    assert summary.count == 1
    assert coalescer.due(now=181.0) == []  # over
    assert coalescer.note(refusal(), now=182.0)


def test_what_differs_is_another_refusal() -> None:
    coalescer = Coalescer(every=60, budget=100_000)
    others: list[dict[str, Any]] = [
        {}, {"binary_path": "/usr/bin/other"}, {"binary_hash": "sha256:bb"}, {"service": "aws"}, {"targets": ("a",)},
        {"targets": ("b",)}, {"reason": "rate_limited"}, {"action": "read"}, {"script_path": "/opt/a.py"},
        {"detail": "another"}, {"uid": 7},
    ]  # fmt: skip
    assert all(coalescer.note(refusal(**other), now=1.0) for other in others)
    assert not any(coalescer.note(refusal(**other), now=1.0) for other in others)


def test_at_the_end_everything_that_was_counted_is_told() -> None:
    coalescer = Coalescer(every=60, budget=100_000)
    for _ in range(3):
        coalescer.note(refusal(), now=1.0)
    assert [line.count for line in coalescer.due(now=2.0, all_of_them=True)] == [2]


def test_a_program_that_always_differs_does_not_fill_the_log() -> None:
    """A day of a thousand refusals a second, no two of them alike, against a naive log of 110 MB."""
    coalescer = Coalescer(every=60, budget=100_000)
    naive = written = asked = counted = 0
    for second in range(0, 24 * 3600, 60):
        for number in range(60):  # each stands for a thousand: the rest of them would only be counted
            record = refusal(path=f"/home/u/evil{second}.{number}", targets=("x" * 500,))
            asked += 1
            naive += 1000 * len(encode(record))
            if coalescer.note(record, float(second)):
                written += len(encode(record))
                counted += 1
        for summary in coalescer.due(float(second)):
            written += len(encode(summary))
            counted += summary.count or 0
    counted += sum(summary.count or 0 for summary in coalescer.due(24 * HOUR, all_of_them=True))
    assert naive > 110 * 1024 * 1024  # it ended the history many times
    assert written < 25 * 100_000 + 24 * 60 * 2500  # the budget, and one line a minute about the rest
    assert counted == asked  # and still each is on record


def test_the_line_about_the_rest_says_how_many_and_names_some() -> None:
    coalescer = Coalescer(every=60, budget=0)
    for number in range(30):
        assert not coalescer.note(refusal(path=f"/evil{number}" + "x" * 5000), now=1.0)
    assert not coalescer.note(refusal(reason="rate_limited"), now=2.0)
    [line] = coalescer.due(now=61.0)
    assert (line.action, line.count, line.result) == (OVERFLOW, 31, "DENIED")
    assert line.detail is not None
    assert "30 unregistered_binary_pending_approval, 1 rate_limited" in line.detail
    assert "/evil0x" in line.detail
    assert line.detail.endswith("and others")
    assert len(line.detail) < 3000
    assert coalescer.due(now=200.0) == []


def test_without_budget_left_counts_join_the_rest() -> None:
    one = len(encode(refusal())) + 150
    coalescer = Coalescer(every=60, budget=one)
    assert coalescer.note(refusal(), now=1.0)
    for _ in range(5):
        coalescer.note(refusal(), now=1.0)
    [line] = coalescer.due(now=61.0)
    assert (line.action, line.count) == (OVERFLOW, 5)


def test_the_budget_fills_up_again_in_an_hour_and_no_further() -> None:
    coalescer = Coalescer(every=60, budget=2000)
    fits = 0
    for hour in (0, 1, 50):
        fits = sum(coalescer.note(refusal(path=f"/{hour}.{number}"), now=hour * HOUR) for number in range(100))
        assert 3 <= fits <= 6
        coalescer.due(now=hour * HOUR + 61)
