"""Who started a process, and who started that one: for a person who has to decide, never for a rule.

What it does not promise: truth. A parent may have ended, and then the next process that cares for orphans stands there;
a pid may have been given anew while we looked; a command line is the process's own word. What is read here is read
once, cut, and shown as a claim.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from keychain_auth.platform.linux.procfs import Process

_MOST = 16
_WORD_BYTES = 512
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
        found.append(_described(parent))
        seen.add(parent)
        pid = parent
    return found


def _parent(pid: int) -> int:
    """0 if it cannot be told."""
    with contextlib.suppress(OSError, IndexError, ValueError), contextlib.closing(Process(pid)) as process:
        return process.parent()
    return 0


def _described(pid: int) -> Ancestor:
    executable, words = "", b""
    with contextlib.suppress(OSError), contextlib.closing(Process(pid)) as process:
        words = process.first_words(_WORD_BYTES).removesuffix(b"\0")  # everybody may see these
        executable = os.fsencode(process.executable_path()).decode("utf-8", "backslashreplace")
    return Ancestor(pid, executable, words.replace(b"\0", b" ").decode("utf-8", "backslashreplace"))
