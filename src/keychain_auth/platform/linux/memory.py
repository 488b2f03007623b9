"""Memory files that nobody can change any more (memfd_create(2)): how content is handed on without a path."""

from __future__ import annotations

import fcntl
import os

# F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE (fcntl(2)): by number, for this file is loaded on macOS too.
_SEALS = 0x1 | 0x2 | 0x4 | 0x8


def sealed(name: str, content: bytes) -> int:
    """A close-on-exec descriptor of a sealed file with ``content``, at its end. ``name`` is for people who debug."""
    memory = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(memory, view) :]
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(memory)
        raise
    return memory


def is_sealed(fd: int) -> bool:
    """Is it a file that nobody can change any more?"""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:  # no file of that kind
        return False
