"""Where in a JSON text a value stands, so that a person is told the line and not only the field.

Used only when something is wrong, on text that already parsed: speed does not matter, and no case is invalid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

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


def repeated_key(text: str) -> tuple[str, int]:
    """(field, 1-based line) of the first key that stands twice in one object; ("$", 1) if there is none."""
    found = _repeated(text, _skip(text, 0), "$")
    return ("$", 1) if found is None else (found[0], text.count("\n", 0, found[1]) + 1)


def _repeated(text: str, position: int, field: str) -> tuple[str, int] | None:
    if text[position] == "{":
        seen = set()
        for name, start, value in _members(text, position):
            if name in seen:
                return f"{field}.{name}", start
            seen.add(name)
            if (found := _repeated(text, value, f"{field}.{name}")) is not None:
                return found
    elif text[position] == "[":
        index = 0
        while (element := _element(text, position, str(index))) is not None:
            if (found := _repeated(text, element, f"{field}[{index}]")) is not None:
                return found
            index += 1
    return None


def _members(text: str, position: int) -> Iterator[tuple[str, int, int]]:
    """(name, where the name stands, where its value begins) for each member of the object at ``position``."""
    position = _skip(text, position + 1)
    while text[position] != "}":
        start = position
        name, position = _DECODER.raw_decode(text, position)
        position = _skip(text, _skip(text, position) + 1)  # over the colon
        yield name, start, position
        position = _next(text, position)


def _member(text: str, position: int, key: str) -> int | None:
    if text[position] != "{":
        return None
    return next((value for name, _, value in _members(text, position) if name == key), None)


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
