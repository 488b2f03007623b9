"""JSON by the parts of the standard library that are written in C, without the module around them.

Why: ``import json`` costs 5 ms, half of what a short program pays for its first secret, because it imports ``re`` (and
with it ``enum``, ``functools``, ``collections``) for the sake of errors that name line and column. The work is done by
``_json`` either way.

Contract: ``loads`` and ``dumps`` are ``json.loads`` and ``json.dumps(ensure_ascii=False, allow_nan=False,
separators=(",", ":"))``; where ``_json`` is not what CPython has (another Python), or a value is of no plain type, they
really are.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would double what this import costs
    from collections.abc import Callable
    from typing import Any

_WHITESPACE = " \t\n\r"


class _Scanning:
    """How ``json.JSONDecoder`` is set by default."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = parse_constant = float
    parse_int = int


try:
    from _json import encode_basestring as _text
    from _json import make_scanner

    _scan: Callable[[str, int], tuple[Any, int]] | None = make_scanner(_Scanning)  # type: ignore[arg-type]
except (ImportError, AttributeError, TypeError):
    _scan = None


def loads(text: str) -> Any:
    """The value in ``text``. Raises ValueError, RecursionError."""
    if _scan is None:
        return _slowly().loads(text)
    stripped = text.strip(_WHITESPACE)
    try:
        value, end = _scan(stripped, 0)
    except StopIteration:
        end = -1
    if end != len(stripped):
        raise ValueError("not one JSON value")
    return value


def dumps(value: object) -> str:
    """``value`` as JSON. Raises TypeError, ValueError, RecursionError."""
    if _scan is not None:
        try:
            return _dump(value)
        except (_Odd, RecursionError):
            pass
    text: str = _slowly().dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text


class _Odd(Exception):
    """Not a plain type."""


def _dump(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is dict:
        return "{" + ",".join([f"{_key(name)}:{_dump(each)}" for name, each in value.items()]) + "}"
    if kind is list or kind is tuple:
        return "[" + ",".join([_dump(each) for each in value]) + "]"
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return int.__repr__(value)
    raise _Odd


def _key(name: object) -> str:
    if type(name) is not str:
        raise _Odd
    return _text(name)


def _slowly() -> Any:
    import json  # noqa: PLC0415 - the point is to do without it

    return json
