"""The rules of the pending queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.model import Grade, Identity, Program
from keychain_auth.policy.pending import (
    COMMAND_LINE_BYTES,
    KEPT,
    PendingEntry,
    PendingProgram,
    decode_queue,
    encode_queue,
    find,
    merge,
    pending_entry,
    stamp,
)

NOW = datetime(2026, 5, 21, 12, tzinfo=UTC)


def entry(number: int, when: datetime = NOW, interpreter: PendingProgram | None = None) -> PendingEntry:
    return PendingEntry(f"/bin/{number}", f"sha256:{number:064x}", "x", stamp(when), "u", number, interpreter)


def test_the_same_program_is_one_entry_with_the_newest_time() -> None:
    later = NOW + timedelta(minutes=5)
    queue = merge([entry(1), entry(2)], [entry(1, later)], later)
    assert [(one.path, one.timestamp) for one in queue] == [("/bin/2", stamp(NOW)), ("/bin/1", stamp(later))]


def test_beyond_the_bounds_the_oldest_of_who_has_most_goes() -> None:
    """A user who asks with a thousand programs pushes out his own, and nobody else's."""
    bobs = [msgspec.structs.replace(entry(number), user="bob") for number in (5001, 5002)]
    queue = merge(bobs, [entry(number) for number in range(KEPT + 50)], NOW)
    assert len(queue) == KEPT
    assert queue[:2] == bobs
    assert queue[2].path == "/bin/52"
    large = [msgspec.structs.replace(entry(number), command_line="\1" * COMMAND_LINE_BYTES) for number in range(500)]
    queue = merge(bobs, large, NOW)
    assert queue[:2] == bobs
    assert len(queue) < 300


def test_a_script_is_another_entry_than_its_interpreter() -> None:
    python = PendingProgram("/usr/bin/python3.11", "sha256:" + "c" * 64)
    other = PendingProgram("/usr/bin/python3.12", "sha256:" + "d" * 64)
    queue = merge([], [entry(1), entry(1, interpreter=python), entry(1, interpreter=other)], NOW)
    assert len(queue) == 3


def test_entries_are_gone_after_24_hours() -> None:
    old = NOW - timedelta(hours=24, seconds=1)
    assert merge([entry(1, old)], [entry(2)], NOW) == [entry(2)]
    assert merge([entry(1, NOW - timedelta(hours=23, minutes=59))], [], NOW) != []


def test_the_oldest_go_first_beyond_1000() -> None:
    queue = merge([entry(number) for number in range(KEPT)], [entry(5000)], NOW)
    assert len(queue) == KEPT
    assert queue[0] == entry(1)
    assert queue[-1] == entry(5000)


def test_the_oldest_go_first_beyond_5_mib() -> None:
    """A thousand programs in folders with control characters for names are 50 MB of JSON, rewritten again and again."""
    evil = [
        PendingEntry("/" + "\u0001" * 4000, f"sha256:{number:064x}", "\u0001" * 4096, stamp(NOW), "u", number)
        for number in range(KEPT)
    ]
    assert len(encode_queue(evil)) > 45 * 1024 * 1024
    queue = merge(evil, [entry(5000)], NOW)
    assert len(encode_queue(queue)) < 5.2 * 1024 * 1024
    assert queue == [*evil[-len(queue) + 1 :], entry(5000)]
    plain = [
        PendingEntry(f"/usr/bin/{number}", f"sha256:{number:064x}", "x" * 4096, stamp(NOW), "u", number)
        for number in range(KEPT)
    ]
    assert merge(plain, [], NOW) == plain


def test_the_file_is_for_people_too() -> None:
    python = PendingProgram("/usr/bin/python3.11", "sha256:" + "c" * 64)
    for queue in ([], [entry(1)], [entry(1), entry(2, interpreter=python)]):
        assert encode_queue(queue) == msgspec.json.format(msgspec.json.encode(queue), indent=2) + b"\n"


@given(st.text(max_size=3000))
def test_a_command_line_is_cut_at_4_kib(text: str) -> None:
    identity = Identity(Program("/bin/x", "a" * 64), Grade.USER, pid=1, uid=1)
    kept = pending_entry(identity, text, "u", NOW).command_line
    assert len(kept.encode()) <= COMMAND_LINE_BYTES
    assert text.startswith(kept)
    assert len(text.encode()) - len(kept.encode()) < 4 or len(text.encode()) > COMMAND_LINE_BYTES


def test_bytes_that_are_no_text_do_not_break_the_queue() -> None:
    """argv comes from /proc as bytes, and surrogateescape marks those that are not UTF-8."""
    identity = Identity(Program("/bin/x", "a" * 64), Grade.USER, pid=1, uid=1)
    queue = [pending_entry(identity, "tool \udcff", "u", NOW)]
    assert decode_queue(encode_queue(queue))[0].command_line == "tool ?"


def test_what_is_written_is_read_again() -> None:
    queue = [entry(1), entry(2, interpreter=PendingProgram("/usr/bin/python3.11", "sha256:" + "c" * 64))]
    assert decode_queue(encode_queue(queue)) == queue


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"[" * 10**5, b"\xff", b'[{"path":"/x"}]'])
def test_what_is_no_queue_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        decode_queue(content)


def test_find_by_prefix() -> None:
    queue = [entry(1), entry(2)]
    assert find(queue, "0" * 10) == queue
    assert find(queue, f"sha256:{1:064x}") == [queue[0]]
    assert find(queue, f"{2:064X}") == [queue[1]]
