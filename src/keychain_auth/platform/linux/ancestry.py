"""Who started a process, and who started that one: for a person who has to decide, never for a rule.

What it does not promise: truth. A parent may have ended, and then the next process that cares for orphans stands there;
a pid may have been given anew while we looked; a command line is the process's own word. What is read here is read
once, cut, and shown as a claim.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_MOST = 16
_STAT_BYTES, _WORD_BYTES = 4096, 512
_INIT = 1


class Ancestor(NamedTuple):
    """``executable`` is "" where this user may not see it. ``words``: the beginning of its command line."""

    pid: int
    executable: str
    words: str


def ancestors(pid: int) -> list[Ancestor]:
    """The parents of ``pid``, the nearest first, without the first process of the machine."""
    found: list[Ancestor] = []
    seen = {pid}
    while len(found) < _MOST and (parent := _parent(pid)) > _INIT and parent not in seen:
        found.append(Ancestor(parent, _executable(parent), _words(parent)))
        seen.add(parent)
        pid = parent
    return found


def _parent(pid: int) -> int:
    """0 if it cannot be told."""
    # Field 4 of proc_pid_stat(5). The name before it may hold anything, but nothing after the last parenthesis can.
    fields = _read(f"/proc/{pid}/stat", _STAT_BYTES).rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0


def _executable(pid: int) -> str:
    try:
        return os.fsencode(os.readlink(f"/proc/{pid}/exe")).decode("utf-8", "backslashreplace")
    except OSError:
        return ""


def _words(pid: int) -> str:
    raw = _read(f"/proc/{pid}/cmdline", _WORD_BYTES).removesuffix(b"\0")
    return raw.replace(b"\0", b" ").decode("utf-8", "backslashreplace")


def _read(path: str, limit: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, limit)
    except OSError:  # it ended while it was looked at
        return b""
    finally:
        os.close(fd)
