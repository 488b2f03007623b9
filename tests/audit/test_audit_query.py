"""Which lines a person asks for, and lines as they come."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from audit.audit_lab import KEY, make_record
from keychain_auth.audit.following import follow
from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.query import Query, count_of, moment, program_of
from keychain_auth.audit.reading import iterate

NOW = datetime(2026, 5, 21, 12, 0, tzinfo=UTC)


def line(**fields: Any) -> dict[str, object]:
    return {
        "timestamp": "2026-05-21T11:00:00.000000Z", "action": "read", "binary_path": "/usr/local/bin/mytool",
        "service": "aws", "targets": ["prod:key"], "result": "GRANTED", "reason": None, "seq": 7, **fields,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "other"),
    [
        (Query(programs=("/usr/local/bin/mytool",)), {"binary_path": "/usr/bin/mytool"}),
        (Query(programs=("mytool",)), {"binary_path": "/usr/bin/mytool2"}),
        (Query(programs=("/usr/local/*",)), {"binary_path": "/usr/bin/mytool"}),
        (Query(service="aws"), {"service": "aws2"}),
        (Query(target="prod:key"), {"targets": ["prod:key2"]}),
        (Query(action="read"), {"action": "search"}),
        (Query(reason="", results=frozenset({"GRANTED"})), {"result": "DENIED"}),
        (Query(since="2026-05-21T11:00:00.000000Z"), {"timestamp": "2026-05-21T10:59:59.999999Z"}),
        (Query(until="2026-05-21T11:00:00.000001Z"), {"timestamp": "2026-05-21T11:00:00.000001Z"}),
        (Query(after=6), {"seq": 6}),
    ],
)
def test_each_part_of_a_question_leaves_out_what_does_not_fit(query: Query, other: dict[str, Any]) -> None:
    assert query.wants(line())
    assert not query.wants(line(**other))


def test_a_script_is_found_by_its_own_path_and_by_its_interpreter() -> None:
    script = line(binary_path="/usr/bin/python3.11", script_path="/home/me/app.py")
    assert program_of(script) == "/home/me/app.py"
    assert Query(programs=("app.py",)).wants(script)
    assert Query(programs=("python3.11",)).wants(script)


def test_a_name_with_the_letters_of_a_pattern_is_found_by_itself() -> None:
    assert Query(programs=("/opt/[a]",)).wants(line(binary_path="/opt/[a]"))
    assert Query(programs=("/opt/[a]",)).wants(line(binary_path="/opt/a"))


def test_what_cannot_be_read_is_never_left_out() -> None:
    damaged: dict[str, object] = {"unparsable": "\\x00\\x00"}
    assert Query(programs=("x",), service="y", results=frozenset({"DENIED"}), after=10**9).wants(damaged)


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("90s", "2026-05-21T11:58:30.000000Z"), ("30m", "2026-05-21T11:30:00.000000Z"),
        ("2h", "2026-05-21T10:00:00.000000Z"), ("7d", "2026-05-14T12:00:00.000000Z"),
        ("1w", "2026-05-14T12:00:00.000000Z"), ("2026-05-20", "2026-05-20T00:00:00.000000Z"),
        ("2026-05-20T10:00", "2026-05-20T10:00:00.000000Z"),
        ("2026-05-20T10:00:00+02:00", "2026-05-20T08:00:00.000000Z"),
    ],
)  # fmt: skip
def test_times_as_people_write_them(text: str, stamp: str) -> None:
    assert moment(text, NOW) == stamp


@pytest.mark.parametrize("text", ["", "yesterday", "1", "-1h", "1y", "999999w", "2026-13-01"])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        moment(text, NOW)


def test_a_line_that_counts_counts_as_many() -> None:
    assert [count_of(line()), count_of(line(count=29)), count_of(line(count="x")), count_of(line(count=-1))] == [
        1,
        29,
        1,
        1,
    ]


# --- following ------------------------------------------------------------------------------------


def test_every_line_comes_once_and_in_order_over_rotations(tmp_path: Path) -> None:
    """A writer that rotates after every few lines, and a reader that looks whenever it likes."""
    path = str(tmp_path / "audit.log")
    log = AuditLog.open(path, KEY, max_bytes=2000, keep=1000)
    wrote = threading.Event()

    def write() -> None:
        for number in range(300):
            log.append([make_record(str(number))])
            wrote.set()
        log.close()

    writer = threading.Thread(target=write)

    def wait() -> bool:
        alive = writer.is_alive()
        wrote.wait(1)
        wrote.clear()
        return alive

    writer.start()
    seen = list(follow(path, 0, wait))
    writer.join()
    assert [each for each in seen if each["targets"]] == [each for each in iterate(path) if each["targets"]]
    assert [each["seq"] for each in seen] == list(range(1, len(seen) + 1))
    assert len(list(tmp_path.glob("audit.log.*"))) > 20


def test_following_begins_behind_a_number_and_notices_a_log_that_begins_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "audit.log")
    with_lines = [make_record(str(number)) for number in range(5)]
    log = AuditLog.open(path, KEY)
    log.append(with_lines)
    log.close()

    def begin_anew() -> bool:
        if (tmp_path / "put-back").exists():
            return False
        (tmp_path / "put-back").touch()
        for old in ("audit.log", "audit.head"):
            (tmp_path / old).unlink()
        fresh = AuditLog.open(path, KEY)
        fresh.append([make_record("anew")])
        fresh.close()
        return True

    seen = list(follow(path, 4, begin_anew))
    assert [each["targets"] for each in seen] == [["3"], ["4"], [], ["anew"]]


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    assert list(follow(str(tmp_path / "audit.log"), 0, lambda: False)) == []
