"""Processes that a test started and lost sight of: found by a mark of theirs in /proc, and ended."""

from __future__ import annotations

import os
import select
import signal

from support.lines import PATIENCE

SOON = 10.0  # seconds


def marked(mark: str) -> list[tuple[int, str]]:
    """Living processes that carry ``mark`` in their environment or in their command line: pid and command line."""
    wanted = os.fsencode(mark)
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            words = _read(f"/proc/{name}/cmdline")
            if words and (wanted in words or wanted in _read(f"/proc/{name}/environ")):
                found.append((int(name), words.replace(b"\0", b" ").decode("utf-8", "replace")))
    return found


def ends(pid: int) -> bool:
    """Whether it ends within SOON: what was about to end has not got away, and a busy machine lets it wait.

    What does not end is killed.
    """
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ended, _, _ = select.select([process], [], [], SOON)
        if not ended:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], PATIENCE)
        return bool(ended)
    finally:
        os.close(process)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
