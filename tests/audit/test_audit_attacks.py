"""Every way to change a log behind the daemon's back: first against a naive verifier, then against ours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_lab import KEY, first_problem, make_record, naive_chain, naive_numbers, read, rechain, unkeyed

from keychain_auth.audit.chain import GENESIS, Position, linker, seal_all, seal_head
from keychain_auth.audit.chain import Position as At
from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.reading import iterate, tail
from keychain_auth.audit.record import encode
from keychain_auth.audit.verify import verify
from support.sampling import sampled

Open = Callable[..., AuditLog]
Lines = list[bytes]


def edit(lines: Lines, index: int) -> Lines:
    return [*lines[:index], lines[index].replace(b"GRANTED", b"DENIED!"), *lines[index + 1 :]]


def forged(lines: Lines) -> bytes:
    """A line that continues the numbers, made without the key."""
    body = encode(make_record("innocent"))
    return seal_all(unkeyed, b"2026-05-21T12:00:00.000000Z", [body[1:-1]], Position(len(lines), GENESIS))[0]


# what is done, and which line (1-based) is the first that does not fit, with what it claims to be
MANIPULATIONS: dict[str, tuple[Callable[[Lines], Lines], int, int | None]] = {
    "edit the first line": (lambda x: edit(x, 0), 1, 1),
    "edit a middle line": (lambda x: edit(x, 4), 5, 5),
    "edit the last line": (lambda x: edit(x, 9), 10, 10),
    "delete the first line": (lambda x: x[1:], 1, 2),
    "delete a middle line": (lambda x: x[:4] + x[5:], 5, 6),
    "delete the last line": (lambda x: x[:-1], 0, 10),
    "delete all lines": (lambda _: [], 0, 1),
    "swap two lines": (lambda x: [*x[:3], x[4], x[3], *x[5:]], 4, 5),
    "swap the last two lines": (lambda x: [*x[:8], x[9], x[8]], 9, 10),
    "repeat a line": (lambda x: [*x[:4], x[3], *x[4:]], 5, 4),
    "repeat the last line": (lambda x: [*x, x[-1]], 11, 10),
    "append a forged line": (lambda x: [*x, forged(x)], 11, 11),
    "insert a forged line": (lambda x: [*x[:4], forged(x[:4]), *x[4:]], 5, 5),
    "append something else": (lambda x: [*x, b"hello\n"], 11, None),
    "insert an empty line": (lambda x: [*x[:4], b"\n", *x[4:]], 5, None),
    "glue two lines": (lambda x: [*x[:4], x[4][:-1], *x[5:]], 5, None),
    "append half a line": (lambda x: [*x, b'{"timestamp"'], 11, 11),
    "binary noise": (lambda x: [*x[:4], os.urandom(5000).replace(b"\n", b"") + b"\n"], 5, None),
}


@pytest.mark.parametrize("name", MANIPULATIONS)
def test_the_first_line_that_does_not_fit_is_named(written: Path, name: str) -> None:
    manipulate, line, seq = MANIPULATIONS[name]
    assert verify(str(written), KEY).ok
    written.write_bytes(b"".join(manipulate(read(written))))
    problem = first_problem(written)
    assert (problem.file, problem.line) == (str(written), line)
    assert problem.seq == seq or (name == "glue two lines" and problem.seq in (5, 6))


@pytest.mark.parametrize("name", MANIPULATIONS)
def test_a_start_after_it_never_hides_it_and_never_fails(written: Path, open_log: Open, name: str) -> None:
    written.write_bytes(b"".join(MANIPULATIONS[name][0](read(written))))
    before = verify(str(written), KEY).first_problem
    log = open_log()
    log.append([make_record("goes on")])
    assert tail(str(written), 1)[0]["targets"] == ["goes on"]
    if name == "append half a line":  # this is what a crash leaves: mended, and on record
        assert log.findings == ("12 bytes of an unfinished last line were removed",)
        assert verify(str(written), KEY, live_head=log.head).ok
    else:
        assert not verify(str(written), KEY, live_head=log.head).ok
    said = [line["reason"] for line in iterate(str(written)) if line.get("action") == "log_check"]
    if before is not None and (before.line == 0 or before.line >= 10):
        assert said, "a start looks at the end of the log"
        assert log.findings


def test_an_edit_wins_against_numbers_and_against_a_chain_without_key(written: Path) -> None:
    mine = rechain(read(written), unkeyed)  # the log as a daemon with an unkeyed chain would write it
    written.write_bytes(mine)
    assert naive_numbers(written) and naive_chain(written, unkeyed)
    written.write_bytes(rechain(edit(read(written), 4), unkeyed))
    assert b"DENIED!" in written.read_bytes()
    assert naive_numbers(written) and naive_chain(written, unkeyed)  # not noticed


def test_rechaining_without_the_key_loses_against_ours(written: Path) -> None:
    written.write_bytes(rechain(edit(read(written), 4), unkeyed))
    assert first_problem(written).line == 1
    assert verify(str(written), bytes(32)).first_problem is not None  # and another key fits nothing


@pytest.mark.parametrize("index", [0, 3, 9])
def test_every_single_byte_of_a_line_counts(written: Path, index: int) -> None:
    lines = read(written)
    for position in sampled(range(len(lines[index]))):
        changed = bytearray(lines[index])
        changed[position] ^= 0x01
        written.write_bytes(b"".join([*lines[:index], bytes(changed), *lines[index + 1 :]]))
        problem = first_problem(written)
        assert problem.line == index + 1


def test_cutting_the_tail_wins_without_a_head_and_loses_with_it(written: Path) -> None:
    content, lines = written.read_bytes(), read(written)
    start = len(content) - len(lines[-1]) - len(lines[-2])
    unnoticed = []
    ends = start, start + len(lines[-2])  # at the ends of lines a bare chain sees nothing
    for size in sorted({*ends, *sampled(range(start, len(content)))}):
        os.truncate(written, size)
        if naive_chain(written, linker(KEY)):
            unnoticed.append(size)
        problem = first_problem(written)
        assert problem.seq in (9, 10)
        written.write_bytes(content)
    assert unnoticed == [*ends]


@pytest.mark.parametrize("back", [0, 1, 2, 100, 400, 401])
def test_a_start_after_a_cut_says_so_and_goes_on_from_the_head(written: Path, open_log: Open, back: int) -> None:
    content = written.read_bytes()
    os.truncate(written, len(content) - 1 - back)
    whole = written.read_bytes().count(b"\n")
    log = open_log()
    start = next(line for line in iterate(str(written)) if line["reason"] == "log_truncated")
    assert start["result"] == "ERROR" and str(whole + 1) in str(start["detail"])
    assert log.head[0] == 10 + (2 if len(log.findings) == 2 else 1)  # after line 10, though it is gone
    log.append([make_record("goes on")])
    problem = first_problem(written, log.head)
    assert problem.line == whole + 1 and problem.seq is not None and problem.seq > 10


def test_the_log_is_gone_but_its_head_is_not(written: Path, open_log: Open) -> None:
    written.unlink()
    assert first_problem(written).what.startswith("lines 1 to 10 are missing at the end")
    log = open_log()
    assert "lines 1 to 10 are missing" in log.findings[0]
    assert log.head[0] == 12
    problem = first_problem(written, log.head)
    assert (problem.line, problem.seq) == (1, 1)
    assert problem.what == "lines 1 to 10 are missing before this one: rotation had not let them go"


def test_log_and_head_gone_is_noticed_by_verify_only_as_no_log_at_all(written: Path) -> None:
    written.unlink()
    written.with_name("audit.head").unlink()
    assert first_problem(written).what == "there is no audit log"


@pytest.mark.parametrize("content", [None, b"", b"{}", b"noise", b'{"seq":10,"chain":"' + b"0" * 32 + b'"}\n'])
def test_a_head_that_is_gone_or_altered_is_a_problem_and_on_record(
    written: Path, open_log: Open, content: bytes | None
) -> None:
    head = written.with_name("audit.head")
    head.unlink()
    if content is not None:
        head.write_bytes(content)
        head.chmod(0o600)
    assert first_problem(written).file == str(head)
    log = open_log()
    last = tail(str(written), 1)[0]
    assert last["reason"] == ("head_missing" if content is None else "head_altered")
    log.close()
    assert verify(str(written), KEY).ok  # the lines all fit; the record stays


def test_a_head_forged_without_the_key_does_not_hide_a_cut(written: Path) -> None:
    lines = read(written)
    written.write_bytes(b"".join(lines[:5]))
    chain = lines[4][-35:-3].decode()
    written.with_name("audit.head").write_bytes(seal_head(bytes(32), At(5, bytes.fromhex(chain))))
    assert "does not authenticate" in first_problem(written).what


def test_an_older_copy_loses_against_the_head(written: Path, open_log: Open) -> None:
    older = written.read_bytes()
    log = open_log()
    log.append([make_record("the break-in")])
    log.close()
    written.write_bytes(older)
    assert naive_chain(written, linker(KEY))  # a chain alone sees nothing wrong with it
    assert first_problem(written).seq == 11


def test_an_older_copy_with_its_head_loses_only_against_the_running_daemon(
    written: Path, open_log: Open, tmp_path: Path
) -> None:
    shutil.copytree(written.parent, tmp_path / "older")
    log = open_log()
    log.append([make_record("the break-in")])
    head = log.head
    log.close()
    for name in ("audit.log", "audit.head"):
        shutil.copy(tmp_path / "older" / name, written.parent / name)
    assert verify(str(written), KEY).ok  # this is the stated limit
    assert first_problem(written, head).what == "line 11 is missing at the end: the daemon knows of them"


def test_a_log_that_went_another_way_from_an_older_copy(written: Path, open_log: Open, tmp_path: Path) -> None:
    """Both branches are authentic, and as long as each other: the head knows which is the true one."""
    shutil.copytree(written.parent, tmp_path / "older")
    log = open_log()
    log.append([make_record("branch one")])
    log.close()
    true_head = written.with_name("audit.head").read_bytes()
    for name in ("audit.log", "audit.head"):
        shutil.copy(tmp_path / "older" / name, written.parent / name)
    log = open_log()
    log.append([make_record("branch two")])
    log.close()
    written.with_name("audit.head").write_bytes(true_head)
    assert naive_chain(written, linker(KEY))
    assert first_problem(written).what == "this is not the line 11 that audit.head remembers"
    assert "not the one that audit.head remembers" in open_log().findings[0]


def test_a_number_left_out_by_somebody_with_the_key(written: Path) -> None:
    lines = read(written)
    chain = bytes.fromhex(lines[-1][-35:-3].decode())
    extra, _ = seal_all(linker(KEY), b"2026-05-21T12:00:00.000000Z", [encode(make_record())[1:-1]], Position(11, chain))
    written.write_bytes(b"".join([*lines, extra]))
    assert naive_chain(written, linker(KEY))
    assert first_problem(written).what.startswith("line 11 should stand here")


def test_a_log_cannot_be_made_to_begin_at_another_line_of_its_own(written: Path, open_log: Open) -> None:
    """A ``log_check`` line names what it was built on too, but no file begins with one."""
    os.truncate(written, written.stat().st_size - 1)
    open_log().close()
    lines = read(written)
    (at,) = [index for index, line in enumerate(lines) if b'"log_truncated"' in line]
    note = next(index for index, line in enumerate(lines) if b'"previous"' in line and index)
    assert note <= at
    written.write_bytes(b"".join(lines[note:]))
    problem = first_problem(written)
    assert problem.line == 1 and "does not begin here" in problem.what
