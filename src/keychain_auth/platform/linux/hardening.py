"""The daemon guards itself, before it holds anything worth guarding.

What it does not promise: Python copies objects as it works, so a key or a value may lie in pages that were never
locked. Without swap, core files and ptrace nobody of the same user reads those; root always can.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import signal

from keychain_auth.platform.linux.syscalls import forbid_dumps, lock_memory


def harden_process() -> None:
    """No dumps, no core file, private files, and as many descriptors as this user may have.

    Every connection costs two descriptors (the socket and the process's /proc folder). SIGIO, which a broken file lease
    sends, would end the process by default.
    """
    forbid_dumps()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def key_memory(size: int = 32) -> tuple[mmap.mmap, bool]:
    """Memory for a key: not in core files (MADV_DONTDUMP), not in children (MADV_DONTFORK), and locked if the
    limits of this user allow it. The second value says whether it is locked.
    """
    memory = mmap.mmap(-1, max(size, mmap.PAGESIZE))
    memory.madvise(mmap.MADV_DONTDUMP)
    memory.madvise(mmap.MADV_DONTFORK)
    try:
        lock_memory(ctypes.addressof(ctypes.c_char.from_buffer(memory)), len(memory))
    except OSError:
        return memory, False
    return memory, True
