"""Read an audit log without its key: every line as it stands there.

Contract:
* Lines come as dicts, across the rotated files, in the order that the function's name says. A line that is no JSON
  object comes as ``{"unparsable": <its escaped beginning>}``, and is never left out. What stands behind the last
  newline is a line that the daemon is still writing: it is left out.
* Reading may go on beside the daemon that writes, while it rotates, too.

What it does not promise: that the lines are true. Only ``verify``, which has the key, can say that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

from keychain_auth.audit import shelf
from keychain_auth.audit.record import decode
from keychain_auth.errors import AuditError, quoted

Line = dict[str, object]

_SHOWN = 200  # bytes of a line that cannot be parsed


def iterate(path: str) -> Iterator[Line]:
    """Every line of the log ``path``, the oldest first. Raises AuditError or UnsafeFile if a file cannot be read."""
    opened = open_all(os.path.abspath(path))
    try:
        for _, fd in reversed(opened):
            yield from (parsed(line) for line in shelf.lines(fd) if line.endswith(b"\n"))
    finally:
        close_all(opened)


def backwards(path: str) -> Iterator[Line]:
    """Every line, the newest first; reads no more than is asked for. Raises as ``iterate``."""
    opened = open_all(os.path.abspath(path))
    try:
        for _, fd in opened:
            yield from (parsed(line) for line in shelf.lines_backwards(fd) if line.endswith(b"\n"))
    finally:
        close_all(opened)


def tail(path: str, count: int) -> list[Line]:
    """The last ``count`` lines, the oldest of them first. Raises as ``iterate``."""
    return list(islice(backwards(path), max(0, count)))[::-1]


def parsed(line: bytes) -> Line:
    """One line with its newline."""
    fields = decode(line)
    return {"unparsable": ascii(line[:_SHOWN])[2:-1]} if fields is None else fields


def open_all(path: str) -> list[tuple[str, int]]:
    """Name and descriptor of each file of the log, the newest first. Raises AuditError, UnsafeFile."""
    try:
        return shelf.open_all(path)
    except OSError as error:
        raise AuditError(f"cannot read {path}: {error.strerror}", hint=f"ls -la {quoted(path)}*") from None


def close_all(opened: list[tuple[str, int]]) -> None:
    """Close what ``open_all`` opened."""
    for _, fd in opened:
        os.close(fd)
