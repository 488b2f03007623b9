"""The quick JSON and the module's own agree: on every value, on every text, on every error's kind."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.wire import quick_json

ANY_TEXT = st.text(st.characters(exclude_categories=()))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner) | st.tuples(inner, inner),
    max_leaves=10,
)
ODD = ["", " ", "1 2", "[1,]", "{", '{"a":1,"a":2}', "nul", "NaN", "-Infinity", '"\t"', '"\\ud800"', "1e999", "\ufeff1"]


def outcome(load: Any, text: str) -> object:
    try:
        value = load(text)
    except ValueError:
        return ValueError
    return repr(value)


@given(VALUES)
def test_values_are_written_alike(value: Any) -> None:
    said = quick_json.dumps(value)
    assert said == json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    assert quick_json.loads(f" {said}\r\n") == json.loads(said)


@given(ANY_TEXT)
def test_texts_are_read_alike(text: str) -> None:
    assert outcome(quick_json.loads, text) == outcome(json.loads, text)


@pytest.mark.parametrize("text", [*ODD, "9" * 5000, "[" * 100_000])
def test_odd_texts_are_read_alike(text: str) -> None:
    def read(load: Any) -> object:
        try:
            return outcome(load, text)
        except RecursionError:
            return RecursionError

    assert read(quick_json.loads) == read(json.loads)


class Text(str):
    """Not exactly a string."""


@pytest.mark.parametrize("value", [{1: "a"}, {None: 1}, Text("a"), [Text("b")], 1.5])
def test_values_of_other_kinds_are_written_alike(value: Any) -> None:
    assert quick_json.dumps(value) == json.dumps(value, separators=(",", ":"))


def test_what_is_no_json_raises_alike() -> None:
    circle: list[object] = []
    circle.append(circle)
    for value, kind in ((math.nan, ValueError), (circle, ValueError), (b"", TypeError), (object(), TypeError)):
        with pytest.raises(kind):
            quick_json.dumps(value)
