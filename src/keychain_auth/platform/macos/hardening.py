"""The daemon guards itself, before it holds anything worth guarding. See ``linux/hardening.py``.

What it does not promise: ptrace(PT_DENY_ATTACH) keeps debuggers away; a program with the entitlement to read other
processes (task_for_pid) is not stopped by it. Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import signal

from keychain_auth.native import library

_PT_DENY_ATTACH = 31  # sys/ptrace.h
_DESCRIPTORS = 10240  # OPEN_MAX of sys/syslimits.h: above it setrlimit(2) fails, whatever the hard limit says


def harden_process() -> None:
    """No debugger, no core file, private files, and as many descriptors as this user may have."""
    trace = library.bind(
        library.libsystem(), "ptrace", ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_int
    )
    if trace(_PT_DENY_ATTACH, 0, None, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _DESCRIPTORS)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def key_memory(size: int = 32) -> tuple[mmap.mmap, bool]:
    """Memory for a key, locked if the limits of this user allow it; the second value says whether it is."""
    memory = mmap.mmap(-1, max(size, mmap.PAGESIZE))
    lock = library.bind(library.libsystem(), "mlock", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    return memory, lock(ctypes.addressof(ctypes.c_char.from_buffer(memory)), len(memory)) == 0
