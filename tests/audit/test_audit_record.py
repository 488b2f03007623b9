"""Lines: the compatible names, and whatever a client chose cannot leave its line."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime

import msgspec
import pytest
from audit_lab import KEY, make_record
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.audit.chain import GENESIS, Position, linker, origin, seal_all, seal_head, unseal, unseal_head
from keychain_auth.audit.chain import Position as At
from keychain_auth.audit.record import AuditRecord, administrative, decode, encode, stamper
from keychain_auth.errors import AuditError

NAMES = ["action", "pid", "binary_path", "binary_hash", "service", "targets", "result", "reason"]
PRINTABLE = re.compile(rb"[\x20-\x7e]*")

# Everything, lone surrogates included: a path that is no UTF-8 has them. Only a high one directly before a low
# one is left out: JSON cannot tell such a pair from the character that it means.
anything = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff\x7f\x85\u2028\u202e"))


def test_the_compatible_names_are_always_there_and_ours_only_where_they_say_something() -> None:
    plain = administrative("log_start")
    assert list(json.loads(encode(plain))) == NAMES
    full = make_record(uid=1000, script_path="/s.py", script_hash="sha256:00", detail="why")
    assert list(json.loads(encode(full))) == [*NAMES, "uid", "script_path", "script_hash", "detail"]


def test_no_field_could_hold_a_value() -> None:
    assert not {"value", "values", "secret", "attributes"} & set(AuditRecord.__struct_fields__)


@given(targets=st.lists(anything, max_size=4), service=anything, path=anything)
def test_any_text_stays_in_its_line_and_comes_back_equal(targets: list[str], service: str, path: str) -> None:
    record = make_record(targets=targets, service=service, binary_path=path)
    line, _ = seal_all(linker(KEY), b"2026-05-21T12:00:00.000000Z", [encode(record)[1:-1]], Position(6, GENESIS))
    assert line.endswith(b"\n") and PRINTABLE.fullmatch(line[:-1])
    back = json.loads(line)
    assert decode(line) == back
    assert (back["targets"], back["service"], back["binary_path"]) == (targets, service, path)
    assert list(back) == ["timestamp", *NAMES, "seq", "chain"]
    assert unseal(line) is not None


def test_the_naive_encoder_lets_a_name_rewrite_the_terminal_and_ours_does_not() -> None:
    evil = "\x9b2K\u202egnp.\u2028\x7f"
    record = make_record(evil)
    naive = msgspec.json.encode(record)
    assert evil.encode() in naive  # C1 control, bidi override, line separator and DEL, all raw
    assert PRINTABLE.fullmatch(encode(record))
    assert json.loads(encode(record))["targets"] == [evil]


def test_a_name_that_imitates_the_end_of_a_line_is_only_a_name() -> None:
    evil = '","seq":999,"chain":"' + "0" * 32 + '"}\n{"timestamp":"'
    line, _ = seal_all(linker(KEY), b"t", [encode(make_record(evil))[1:-1]], Position(4, GENESIS))
    sealed = unseal(line)
    assert sealed is not None and sealed.seq == 5 and line.count(b"\n") == 1


def test_both_encoders_write_the_same_bytes_for_the_same_fields() -> None:
    plain = encode(make_record("aXb", uid=0, detail=""))
    odd = encode(make_record("a\x7fb", uid=0, detail=""))
    assert odd.replace(b"\\u007f", b"X") == plain


def test_a_field_that_is_no_json_is_refused() -> None:
    with pytest.raises(AuditError, match="cannot be encoded"):
        encode(make_record(pid=object()))


@pytest.mark.parametrize("line", [b"", b"\xff", b"[]", b"7", b"{", b"[" * 100_000, b'{"a":' * 100_000])
def test_decode_gives_none_for_what_is_no_object(line: bytes) -> None:
    assert decode(line) is None


@given(st.lists(st.integers(min_value=-(10**18), max_value=4 * 10**18), min_size=1, max_size=5))
def test_stamps_are_utc_iso_8601_with_microseconds_whatever_order_they_come_in(moments: list[int]) -> None:
    stamp = stamper()
    for moment in moments:
        read = datetime.strptime(stamp(moment).decode(), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        expected = datetime.fromtimestamp(moment // 10**9, UTC).replace(microsecond=moment % 10**9 // 1000)
        assert read == expected
        assert len(stamp(moment)) == 27


def test_the_stamp_of_now() -> None:
    second = int(time.time())
    assert stamper()(second * 10**9 + 123_456_789).decode() == datetime.fromtimestamp(second, UTC).strftime(
        "%Y-%m-%dT%H:%M:%S.123456Z"
    )


def test_the_head_authenticates_only_under_its_key_and_unchanged() -> None:
    at = At(12, bytes(range(16)))
    content = seal_head(KEY, at)
    assert unseal_head(KEY, content) == at
    assert unseal_head(bytes(32), content) is None
    for index in range(len(content)):
        assert unseal_head(KEY, content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]) is None
        assert unseal_head(KEY, content[:index]) is None


def test_a_line_of_the_log_cannot_pass_for_a_head() -> None:
    body = b'{"seq":9,"chain":"' + b"0" * 32 + b'"'
    forged = body + b',"mac":"' + linker(KEY)(b"", body).hex().encode() + b'"}\n'
    assert unseal_head(KEY, forged) is None


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        linker(bytes(size))


END = b',"chain":"' + b"0" * 32 + b'"}\n'


@pytest.mark.parametrize(
    "line",
    [
        b"5" + END,  # no number of its own, and nothing but digits
        b'{"a":1' + END,
        b'{"a":1,"seq":' + END,
        b'{"a":1,"seq":-5' + END,
        b'{"a":1,"seq":5 ' + END,
        b'{"a":1,"seq":' + b"9" * 30 + END,
        b'{"a":1,"seq":5' + END.replace(b"0", b"A"),
        b'{"a":1,"seq":5' + END.replace(b"chain", b"chaim"),
        b'{"a":1,"seq":5' + END.replace(b"}", b"]"),
        b'{"a":1,"seq":5' + END.rstrip(),
    ],
)
def test_what_has_not_the_shape_of_a_line_is_none(line: bytes) -> None:
    assert unseal(line) is None


def test_the_shape_of_a_line() -> None:
    sealed = unseal(b'{"a":1,"seq":5' + END)
    assert sealed is not None
    assert (sealed.text, sealed.seq, sealed.chain) == (b'{"a":1,"seq":5', 5, bytes(16))


@given(st.binary(max_size=120))
def test_noise_is_no_line(noise: bytes) -> None:
    assert unseal(noise) is None
    assert origin(noise) is None


def test_origin_of_odd_fields_is_none() -> None:
    assert origin(b'{"action":"log_start","previous":"xyz"}') is None
    assert origin(b'{"action":7}') is None
