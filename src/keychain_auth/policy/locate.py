"""Where in a JSON text a value stands, so that a person is told the line and not only the field.

Used only when something is wrong, on text that already parsed: speed does not matter, and no case is invalid.
"""

from __future__ import annotations

import json
import re

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def line_of(text: str, field: str) -> int:
    """The 1-based line of the value at ``field`` (``$.registered_binaries[2].hash``).

    A path that ends in something missing gives the line of the object that should hold it.
    """
    position = _skip(text, 0)
    for key, index in _STEP.findall(field):
        found = _member(text, position, key) if key else _element(text, position, index)
        if found is None:
            break
        position = found
    return text.count("\n", 0, position) + 1


def _member(text: str, position: int, key: str) -> int | None:
    if text[position] != "{":
        return None
    position = _skip(text, position + 1)
    while text[position] != "}":
        name, position = _DECODER.raw_decode(text, position)
        position = _skip(text, _skip(text, position) + 1)  # over the colon
        if name == key:
            return position
        position = _next(text, position)
    return None


def _element(text: str, position: int, index: str) -> int | None:
    if text[position] != "[" or not index.isdigit():
        return None
    position = _skip(text, position + 1)
    for _ in range(int(index)):
        if text[position] == "]":
            return None
        position = _next(text, position)
    return None if text[position] == "]" else position


def _next(text: str, position: int) -> int:
    """The start of what follows the value at ``position``: the next member, or the closing bracket."""
    _, position = _DECODER.raw_decode(text, position)
    position = _skip(text, position)
    return _skip(text, position + 1) if text[position] == "," else position


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
