"""Whole files removed, exchanged or cut, and a verifier that runs beside the daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from audit_lab import KEY, first_problem, make_record, read

from keychain_auth.audit import shelf
from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.reading import tail
from keychain_auth.audit.verify import verify
from keychain_auth.errors import AuditError

Open = Callable[..., AuditLog]
Lines = list[bytes]


def edit(lines: Lines, index: int) -> Lines:
    return [*lines[:index], lines[index].replace(b"GRANTED", b"DENIED!"), *lines[index + 1 :]]


# --- over several files ---------------------------------------------------------------------------


@pytest.fixture
def rotated(path: Path, open_log: Open) -> Path:
    """A closed log of five files."""
    log = open_log(max_bytes=1200, keep=10)
    while shelf.numbers(str(path)) != [1, 2, 3, 4]:
        log.append([make_record("t")])
    log.append([make_record("t")])
    log.close()
    assert verify(str(path), KEY).ok and verify(str(path), KEY).files == 5
    return path


def number(path: Path, which: int) -> Path:
    return Path(shelf.numbered(str(path), which))


@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_removed_middle_file_is_named_by_the_next_one(rotated: Path, which: int) -> None:
    number(rotated, which).unlink()
    problem = first_problem(rotated)
    assert (problem.file, problem.line) == (str(number(rotated, which - 1)), 1)
    assert "missing before this one" in problem.what


def test_the_oldest_file_removed_wins_against_the_chain_and_loses_to_what_the_newest_says(
    rotated: Path,
) -> None:
    count = len(read(number(rotated, 4)))
    number(rotated, 4).unlink()
    problem = first_problem(rotated)
    assert problem.what == f"lines 1 to {count} are missing before this one: rotation had not let them go"


def test_all_older_files_removed(rotated: Path) -> None:
    for which in (1, 2, 3, 4):
        number(rotated, which).unlink()
    assert "rotation had not let them go" in first_problem(rotated).what


def test_the_newest_file_removed(rotated: Path, open_log: Open) -> None:
    rotated.unlink()
    assert "missing at the end" in first_problem(rotated).what
    log = open_log()
    assert "missing" in log.findings[0]
    assert not verify(str(rotated), KEY, live_head=log.head).ok


def test_two_files_change_places(rotated: Path) -> None:
    spare = rotated.with_name("spare")
    number(rotated, 2).rename(spare)
    number(rotated, 3).rename(number(rotated, 2))
    spare.rename(number(rotated, 3))
    assert first_problem(rotated).file == str(number(rotated, 3))


def test_a_rotated_file_cut_at_a_line_is_named_by_the_next_one(rotated: Path) -> None:
    lines = read(number(rotated, 2))
    number(rotated, 2).write_bytes(b"".join(lines[:-1]))
    problem = first_problem(rotated)
    assert (problem.file, problem.line) == (str(number(rotated, 1)), 1)
    assert "is missing before this one" in problem.what


def test_lines_are_counted_up_to_the_problem(rotated: Path) -> None:
    lines = read(number(rotated, 3))
    number(rotated, 3).write_bytes(b"".join(edit(lines, 1)))
    report = verify(str(rotated), KEY)
    assert report.lines == len(read(number(rotated, 4))) + 1


# --- a verifier beside a daemon -----------------------------------------------------------------------


def test_a_line_just_being_written_is_no_problem_beside_a_daemon(written: Path, open_log: Open) -> None:
    log = open_log()
    with written.open("ab") as file:
        file.write(b'{"timestamp":"2026')
    assert first_problem(written).what == "this line is unfinished: cut off, or left by a crash"
    report = verify(str(written), KEY, live_head=log.head)
    assert report.ok and "at this moment" in report.warnings[0]
    assert first_problem(written, (99, "00" * 16)).line == 11  # the daemon knows of more: not this one


@pytest.mark.parametrize("keep", [4, 30])
@pytest.mark.parametrize("at", range(1, 6))
def test_a_rotation_in_the_middle_of_looking_hides_no_file(
    path: Path, open_log: Open, monkeypatch: pytest.MonkeyPatch, at: int, keep: int
) -> None:
    log = open_log(max_bytes=700, keep=keep)
    for _ in range(12):
        log.append([make_record("t")])
    opens, real = 0, shelf.open_regular

    def open_regular(name: str) -> int:
        nonlocal opens
        opens += 1
        if opens == at:
            monkeypatch.setattr(shelf, "open_regular", real)
            log._begin_file("log_rotate")
        return real(name)

    monkeypatch.setattr(shelf, "open_regular", open_regular)
    head = log.head
    report = verify(str(path), KEY, live_head=head)
    assert report.ok, report.first_problem
    assert report.files == len(shelf.numbers(str(path))) + 1
    assert opens >= at


def test_verify_leaves_every_byte_as_it_was(rotated: Path) -> None:
    before = {p.name: p.read_bytes() for p in rotated.parent.iterdir()}
    verify(str(rotated), KEY)
    tail(str(rotated), 5)
    assert {p.name: p.read_bytes() for p in rotated.parent.iterdir()} == before


def test_verify_where_there_is_nothing(tmp_path: Path) -> None:
    assert first_problem(tmp_path / "audit.log").what == "there is no audit log"
    with pytest.raises(AuditError):
        verify(str(tmp_path / "none" / "audit.log"), KEY)


def test_a_folder_in_place_of_the_log_is_set_aside_and_rotation_goes_on(path: Path, open_log: Open) -> None:
    """Were it rotated like a file, it could neither be verified nor, at the end, dropped: then nothing is recorded."""
    log = open_log(max_bytes=1200, keep=2)
    log.append([make_record("t")])
    path.rename(path.with_name("stolen"))
    path.mkdir()
    assert "replaced" in str(log.check())
    (path.parent / "audit.log.1").mkdir()
    for _ in range(40):
        log.append([make_record("t")])
    log.close()
    assert shelf.numbers(str(path)) == [1, 2]
    assert len(list(path.parent.glob("audit.log.no-log-*"))) == 2
    assert verify(str(path), KEY).ok  # rotation has let go of what was stolen too
