"""The files of a log: rotation plans, reading from both ends, the last lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_lab import make_record
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.audit import shelf
from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.reading import iterate, tail


@given(existing=st.sets(st.integers(1, 14)).map(sorted), keep=st.integers(1, 12), current_exists=st.booleans())
def test_a_plan_overwrites_nothing_keeps_the_order_and_drops_only_the_oldest(
    existing: list[int], keep: int, current_exists: bool
) -> None:
    shelf_now = {n: n for n in ([0, *existing] if current_exists else existing)}  # place -> which file
    before = list(shelf_now)
    plan = shelf.plan(existing, keep, current_exists=current_exists)
    for source, target in plan.renames:
        assert target not in shelf_now, "a rename would destroy a file"
        shelf_now[target] = shelf_now.pop(source)
        assert [shelf_now[n] for n in sorted(shelf_now)] == before  # the order holds after each step
    assert 0 not in shelf_now
    dropped = [shelf_now.pop(n) for n in plan.drops]
    assert all(n <= keep for n in shelf_now)
    assert plan.oldest_kept == (max(shelf_now.values()) if shelf_now else None)
    assert not shelf_now or not dropped or min(dropped) > max(shelf_now.values())
    assert len(shelf_now) <= keep


@given(
    content=st.lists(st.sampled_from([b"\n", b"a", b"bc" * 30, b"x" * 200])).map(b"".join),
    block=st.sampled_from([1, 2, 7, 64, 4096]),
)
def test_backwards_is_forwards_reversed_and_a_cut_leaves_whole_lines(content: bytes, block: int) -> None:
    fd = os.memfd_create("lines")
    try:
        os.write(fd, content)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shelf, "_BLOCK", block)
            expected = content.splitlines(keepends=True)
            assert list(shelf.lines(fd)) == expected
            assert list(shelf.lines_backwards(fd)) == expected[::-1]
            whole = b"".join(line for line in expected if line.endswith(b"\n"))
            assert shelf.cut_unfinished_line(fd) == len(content) - len(whole)
            assert os.pread(fd, len(content) + 1, 0) == whole
    finally:
        os.close(fd)


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "MAX_LINE", 1 << 20)
    fd = os.memfd_create("endless")
    try:
        os.truncate(fd, 1 << 30)  # sparse
        first = next(shelf.lines(fd))
        assert len(first) == 1 << 20
        assert sum(len(piece) for piece in shelf.lines_backwards(fd)) < 2 << 20
        assert shelf.first_line(fd) == b""
    finally:
        os.close(fd)


@pytest.mark.parametrize("count", [0, 1, 5, 13, 40, 1000])
def test_tail_is_the_end_of_iterate_across_files(path: Path, open_log: Callable[..., AuditLog], count: int) -> None:
    log = open_log(max_bytes=1500, keep=20)
    for number in range(30):
        log.append([make_record(f"t{number}")])
    every = list(iterate(str(path)))
    assert len(shelf.numbers(str(path))) > 4
    assert [line["seq"] for line in every] == list(range(1, len(every) + 1))
    assert tail(str(path), count) == (every[-count:] if count else [])


def test_a_line_that_is_no_json_is_shown_escaped(written: Path) -> None:
    with written.open("ab") as file:
        file.write(b"\x1b[2J evil \xff\nunfinished")
    assert tail(str(written), 1) == [{"unparsable": "\\x1b[2J evil \\xff\\n"}]
    assert list(iterate(str(written)))[-1] == tail(str(written), 1)[0]


def test_names_that_only_resemble_a_rotated_file_are_left_alone(path: Path) -> None:
    path.parent.mkdir()
    others = ("0", "01", "x", "1.gz", "²", "20260521", "9" * 200)
    for name in others:
        (path.parent / f"audit.log.{name}").touch()
    (path.parent / "audit.logs.4").touch()
    (path.parent / "audit.log.12").touch()
    assert shelf.numbers(str(path)) == [12]
