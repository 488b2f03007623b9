"""The daemon guards itself, before it holds anything worth guarding.

What it does not promise: a process of the same user may open this one and read its memory, unless an administrator
forbids it; Windows has no PR_SET_DUMPABLE.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import ctypes
import mmap
from ctypes import wintypes

_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel.VirtualLock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_kernel.SetErrorMode.argtypes = (wintypes.UINT,)
_NO_DIALOGS = 0x0001 | 0x0002 | 0x8000  # SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SEM_NOOPENFILEERRORBOX


def harden_process() -> None:
    """No report with our memory in it is offered when this process fails (Windows Error Reporting)."""
    _kernel.SetErrorMode(_NO_DIALOGS)


def key_memory(size: int = 32) -> tuple[mmap.mmap, bool]:
    """Memory for a key, and whether it is locked: never written to the page file (VirtualLock)."""
    memory = mmap.mmap(-1, max(size, mmap.PAGESIZE))
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return memory, bool(_kernel.VirtualLock(address, len(memory)))
