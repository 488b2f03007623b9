"""The lines of an audit log as they are written.

Contract: every line once, in order, over any number of rotations: what is new is found by its sequence number, from the
end of the log backwards, so that nothing hangs on one file or its place in it. A log that begins anew with lower
numbers (a restoration) is followed from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from keychain_auth.audit.reading import Line, backwards


def follow(path: str, after: int, wait: Callable[[], bool]) -> Iterator[Line]:
    """Lines beyond sequence number ``after``. ``wait`` returns when it is time to look again, False to end.

    Raises AuditError or UnsafeFile if a file cannot be read.
    """
    seen: tuple[int, int] | None = None
    while True:
        now = _version(path)
        if now != seen:
            fresh = _beyond(path, after)
            yield from fresh
            numbers = [number for line in fresh if isinstance(number := line.get("seq"), int)]
            after = max(numbers, default=after)
            seen = now
        if not wait():
            return


def _beyond(path: str, after: int) -> list[Line]:
    fresh: list[Line] = []
    newest: int | None = None
    for line in backwards(path):
        number = line.get("seq")
        if isinstance(number, int):
            if newest is None:
                newest = number
                after = after if newest >= after else 0  # below it: the log begins anew
            if number <= after:
                break
        fresh.append(line)
    return fresh[::-1]


def _version(path: str) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_ino, about.st_size
