"""Code that this process has mapped from files which others than root can write, taken out of their reach.

A shared library is mapped privately, but a page that this process never wrote is the file's own page: whoever writes
into the file changes the code that runs (mmap(2), MAP_PRIVATE: "It is unspecified whether changes made to the file
after the mmap() call are visible"; on Linux they are). Only the program itself is guarded from that (ETXTBSY), its
libraries are not. MADV_POPULATE_WRITE (Linux 5.14) gives this process copies of its own, without writing anything.

What this does not promise: anything about what was in the files before, or is mapped later.
"""

from __future__ import annotations

import ctypes
import os
import re

from keychain_auth.platform.posix.ownership import only_root_writes

_READ, _WRITE, _EXECUTE = 1, 2, 4
_MADV_POPULATE_WRITE = 23
# Private mappings of files: addresses, permissions, and the name.
_MAPPING = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) ([r-])([w-])([x-])p \S+ \S+ [1-9]\d*\s+(/.*)$")

_libc = ctypes.CDLL(None, use_errno=True)
for _call in (_libc.mprotect, _libc.madvise):
    _call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def keep_mapped_code() -> tuple[str, ...]:
    """Make them this process's own. Returns the files of which that failed (an older kernel, or one that lets no
    code be written). About a millisecond for each MiB; memory as large as they are. Raises OSError."""
    failed: dict[str, None] = {}
    with open("/proc/self/maps", "rb") as file:
        lines = file.read().split(b"\n")
    judged: dict[bytes, bool] = {}
    for line in lines:
        found = _MAPPING.match(line)
        if found is None:
            continue
        start, end, read, write, execute, name = found.groups()
        if name not in judged:
            judged[name] = only_root_writes(os.fsdecode(name))
        if judged[name]:
            continue
        rights = _READ * (read == b"r") | _WRITE * (write == b"w") | _EXECUTE * (execute == b"x")
        if not _copied(int(start, 16), int(end, 16) - int(start, 16), rights):
            failed[os.fsdecode(name)] = None
    return tuple(failed)


def _copied(start: int, size: int, rights: int) -> bool:
    """It stays executable all the while: another thread, or this call's own way through ctypes, may run in it."""
    if _libc.mprotect(start, size, rights | _READ | _WRITE) != 0:
        return False
    done: bool = _libc.madvise(start, size, _MADV_POPULATE_WRITE) == 0
    _libc.mprotect(start, size, rights)
    return done
