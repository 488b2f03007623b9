"""What a command prints, with values taken out: however it comes in pieces, the same as if it came whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.client.mask import MASK, Masker

LETTERS = st.binary(max_size=6).map(lambda data: bytes(byte % 3 + 97 for byte in data))


def shown(values: list[bytes], pieces: list[bytes]) -> bytes:
    masker = Masker(values)
    return b"".join([*(masker.feed(piece) for piece in pieces), masker.feed(b"", last=True)])


def expected(values: list[bytes], text: bytes) -> bytes:
    """From left to right, the longest value that stands there."""
    out, at = b"", 0
    ordered = sorted((value for value in values if value), key=len, reverse=True)
    while at < len(text):
        found = next((value for value in ordered if text.startswith(value, at)), None)
        out += MASK if found else text[at : at + 1]
        at += len(found) if found else 1
    return out


@given(st.lists(LETTERS, max_size=4), st.lists(LETTERS, max_size=12))
def test_pieces_and_the_whole_look_the_same(values: list[bytes], pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    assert shown(values, pieces) == expected(values, text)
    assert shown(values, [bytes([byte]) for byte in text]) == expected(values, text)


BYTES = st.binary(min_size=1, max_size=40).filter(lambda value: b"*" not in value)


@given(st.lists(BYTES, min_size=1, max_size=3), st.binary(max_size=200))
def test_no_value_is_ever_shown_whole(values: list[bytes], noise: bytes) -> None:
    text = noise.join(values)
    out = shown(values, [text[at : at + 7] for at in range(0, len(text), 7)])
    assert not [value for value in values if any(value in piece for piece in out.split(MASK))]


def test_what_cannot_be_a_value_is_shown_at_once() -> None:
    masker = Masker([b"secret"])
    assert masker.feed(b"login: ") == b"login: "
    assert masker.feed(b"se") == b""
    assert masker.feed(b"t") == b"set"
    assert masker.feed(b"xsecre") == b"x"
    assert masker.feed(b"t.") == MASK + b"."
    assert masker.feed(b"sec") == b""
    assert masker.feed(b"", last=True) == b"sec"
    assert Masker([]).feed(b"anything") == b"anything"
    assert Masker([b""]).feed(b"anything") == b"anything"


def test_a_long_value_costs_no_more_than_its_stream() -> None:
    value = b"a" * 200_000 + b"b"
    masker = Masker([value])
    out = b"".join(masker.feed(b"x" * 60_000) for _ in range(20))
    assert out == b"x" * 1_200_000
    assert masker.feed(value) == MASK


def test_expected_open_a_value_that_begins_inside_of_another_is_not_taken_out_whole() -> None:
    masker = Masker([b"alice:s3cret", b"s3cret:prod"])
    assert masker.feed(b"alice:s3cret:prod", last=True) == MASK + b":prod"
