"""DPAPI: Windows encrypts for one user account, with a key that rests on that account's password.

Contract: ``protect`` and ``unprotect`` are CryptProtectData and CryptUnprotectData of crypt32, for the user (never for
the whole machine), and without any window: what would have to ask fails. Both raise OSError, whose ``errno`` is
the system's error number; ``unprotect`` gives a buffer that can be wiped.

What it does not promise: DPAPI asks nobody. Every process of the same account can unprotect what it finds, if it
finds the entropy too.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from keychain_auth.native.library import bind, last_error, system_dll

_UI_FORBIDDEN = 0x1  # CRYPTPROTECT_UI_FORBIDDEN
INVALID_DATA = 13  # ERROR_INVALID_DATA: altered, other entropy, or another account's
BAD_KEY_STATE = -2146893813  # NTE_BAD_KEY_STATE: the account's master key does not open


class _Blob(ctypes.Structure):
    """DATA_BLOB."""

    _fields_ = [("size", ctypes.c_uint32), ("data", ctypes.c_void_p)]


class _Calls(NamedTuple):
    protect: Any
    unprotect: Any
    free: Any


_calls: _Calls | None = None


def protect(secret: bytes | bytearray, entropy: bytes, description: str) -> bytes:
    """``secret`` for this account only. ``entropy``: who wants it back must have it. Raises OSError."""
    calls = _bound()
    given, mixed, made = _blob(secret), _blob(entropy), _Blob()
    ok = calls.protect(
        ctypes.byref(given[0]), description, ctypes.byref(mixed[0]), None, None, _UI_FORBIDDEN, ctypes.byref(made)
    )
    ctypes.memset(given[1], 0, len(secret))
    if not ok:
        raise _failed("CryptProtectData")
    try:
        return ctypes.string_at(made.data, made.size)
    finally:
        calls.free(made.data)


def unprotect(blob: bytes, entropy: bytes) -> bytearray:
    """What ``protect`` was given. Raises OSError."""
    calls = _bound()
    given, mixed, made = _blob(blob), _blob(entropy), _Blob()
    if not calls.unprotect(
        ctypes.byref(given[0]), None, ctypes.byref(mixed[0]), None, None, _UI_FORBIDDEN, ctypes.byref(made)
    ):
        raise _failed("CryptUnprotectData")
    try:
        secret = bytearray(made.size)
        if secret:
            ctypes.memmove((ctypes.c_char * len(secret)).from_buffer(secret), made.data, len(secret))
            ctypes.memset(made.data, 0, made.size)
        return secret
    finally:
        calls.free(made.data)


def _bound() -> _Calls:
    global _calls  # noqa: PLW0603 - loaded when first used, once
    if _calls is None:
        crypt32, kernel32 = system_dll("crypt32.dll"), system_dll("kernel32.dll")
        blob, text, nothing, flags = ctypes.POINTER(_Blob), ctypes.c_wchar_p, ctypes.c_void_p, ctypes.c_uint32
        _calls = _Calls(
            bind(crypt32, "CryptProtectData", ctypes.c_int, blob, text, blob, nothing, nothing, flags, blob),
            bind(crypt32, "CryptUnprotectData", ctypes.c_int, blob, nothing, blob, nothing, nothing, flags, blob),
            bind(kernel32, "LocalFree", ctypes.c_void_p, ctypes.c_void_p),
        )
    return _calls


def _blob(content: bytes | bytearray) -> tuple[_Blob, Any]:
    """A DATA_BLOB, and the buffer that it points to."""
    buffer = (ctypes.c_char * max(1, len(content))).from_buffer_copy(bytes(content) or b"\0")
    return _Blob(len(content), ctypes.addressof(buffer)), buffer


def _failed(call: str) -> OSError:
    number = ctypes.c_int32(last_error()).value
    return OSError(number, f"{call} failed with error {number & 0xFFFFFFFF:#x}")
