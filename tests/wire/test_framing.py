"""Lines out of a byte stream, however the bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.wire.framing import LineSplitter, LineTooLong


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=30))
def test_the_cuts_do_not_matter(stream: bytes, sizes: list[int]) -> None:
    stream = stream.replace(b"\x07", b"\n")
    splitter = LineSplitter(1000)
    lines: list[bytes] = []
    position = 0
    for size in [*sizes, len(stream) + 1]:
        piece = stream[position : position + size]
        position += size
        if piece:
            lines += splitter.feed(piece)
    assert lines == stream.split(b"\n")[:-1]
    assert splitter.unfinished == (not stream.endswith(b"\n") and stream != b"")


def test_what_follows_the_last_newline_is_no_message() -> None:
    splitter = LineSplitter(100)
    assert splitter.feed(b'{"a":1}\n{"b":2}') == [b'{"a":1}']
    assert splitter.unfinished


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 11 + b"\n"], [b"x" * 6, b"x" * 5], [b"ok\n" + b"x" * 11]])
def test_a_line_beyond_the_limit_loses_the_framing(pieces: list[bytes]) -> None:
    splitter = LineSplitter(10)
    with pytest.raises(LineTooLong):
        for piece in pieces:
            splitter.feed(piece)


def test_a_line_of_exactly_the_limit_is_fine() -> None:
    assert LineSplitter(10).feed(b"x" * 10 + b"\n") == [b"x" * 10]
    splitter = LineSplitter(10)
    assert splitter.feed(b"x" * 10) == []
    assert splitter.feed(b"\n") == [b"x" * 10]
