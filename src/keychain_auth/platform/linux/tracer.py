"""Lets one process trace this one, where Yama lets only a parent do so (Documentation/admin-guide/LSM/Yama.rst)."""

from __future__ import annotations

import errno
import os

from keychain_auth.platform.linux.sysctl import yama_scope

_PR_SET_PTRACER = 0x59616D61


def let_trace(pid: int) -> None:
    """Allow ``pid``, and nobody else. Raises OSError."""
    if yama_scope() is None:
        return
    import ctypes  # noqa: PLC0415 - some milliseconds, that other kernels need not pay

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PTRACER, pid, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        if number != errno.EINVAL:  # Yama is not in force
            raise OSError(number, f"prctl: {os.strerror(number)}")
