"""How text of unknown origin reaches a terminal, and standard streams that are not there.

Contract: whoever is asked chooses paths, targets and command lines. None of their control characters reaches a
terminal as it is, so nobody can move a cursor, forge a second line, or hide text behind the direction marks of Unicode;
and nothing that cannot be seen, by which one name would look like another.

Only the standard library: the command line's fast path and every helper of another tool come through here.
"""

from __future__ import annotations

import os
import sys

from keychain_auth.errors import printable

__all__ = ["printable", "require_streams", "stdin_is_nothing"]


def require_streams() -> None:
    """Put something in the place of standard streams that the caller closed (``>&-``).

    Otherwise the next file that is opened takes their number: an answer would be printed into the daemon's socket.
    What stands there instead can only be read, so that an answer that nobody gets is a failure.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            if fd != number:
                os.dup2(fd, number)
                os.close(fd)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def stdin_is_nothing() -> bool:
    """Is stdin closed, or the device that is always at its end? Then nobody can type anything there."""
    if sys.stdin is None:
        return True
    return bool(
        getattr(os.fstat(sys.stdin.fileno()), "st_rdev", 0) == getattr(os.stat(os.devnull), "st_rdev", -1)
    )  # Windows has none
