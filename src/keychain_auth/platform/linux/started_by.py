"""Who started a process, and who started that one: for a person who has to decide, never for a rule.

What it does not promise: truth. A parent may have ended, and then the next process that cares for orphans stands there;
a pid may have been given anew while we looked; a process names itself (prctl(2), PR_SET_NAME).

Nothing is read that lies in the memory of those processes, as their command lines do (proc_pid_cmdline(5)): to read it
takes locks of theirs, and the daemon's event loop, which looks here, waits for nobody.
"""

from __future__ import annotations

import os

from keychain_auth.platform.base import Starter

_MOST = 16
_STAT_BYTES = 4096
_INIT = 1


def starters(pid: int) -> list[Starter]:
    """The parents of ``pid``, the nearest first, without the first process of the machine."""
    found: list[Starter] = []
    seen = {pid}
    parent = _stat(pid)[1]
    while len(found) < _MOST and parent > _INIT and parent not in seen:
        name, above = _stat(parent)
        found.append(Starter(parent, _executable(parent), name))
        seen.add(parent)
        parent = above
    return found


def _stat(pid: int) -> tuple[str, int]:
    """Its name (15 bytes at most) and the pid of its parent; "" and 0 if it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "", 0
    try:
        text = os.read(fd, _STAT_BYTES)
    except OSError:  # it ended while it was looked at
        return "", 0
    finally:
        os.close(fd)
    # "PID (NAME) STATE PPID …" (proc_pid_stat(5)). The name may hold anything, but nothing after the last parenthesis.
    head, _, rest = text.rpartition(b")")
    fields = rest.split()
    name = head.partition(b"(")[2].decode("utf-8", "backslashreplace")
    return name, int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0


def _executable(pid: int) -> str:
    try:
        return os.fsencode(os.readlink(f"/proc/{pid}/exe")).decode("utf-8", "backslashreplace")
    except OSError:
        return ""
