"""Windows' Credential Manager: generic credentials of the account, one call each.

Contract: ``read``, ``write``, ``delete`` and ``find`` are CredReadW, CredWriteW, CredDeleteW and CredEnumerateW of
advapi32, for type CRED_TYPE_GENERIC, kept on this machine (CRED_PERSIST_LOCAL_MACHINE: for later log-ons of this
account here, not on others). What does not exist is None, False, or an empty list. They raise OSError, whose ``errno``
is the system's error number.

Windows compares target names without regard to case (CredReadW): whoever needs more must encode them.

What it does not promise: Credential Manager asks nobody. Every process of the account reads and changes all of it.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from keychain_auth.native.library import bind, last_error, system_dll

LARGEST_BLOB = 2560  # CRED_MAX_CREDENTIAL_BLOB_SIZE: 5 * 512 bytes
NO_SUCH_LOGON_SESSION = 1312  # ERROR_NO_SUCH_LOGON_SESSION: this log-on has no credentials, as some services
_NOT_FOUND = 1168  # ERROR_NOT_FOUND
_GENERIC = 1  # CRED_TYPE_GENERIC
_LOCAL_MACHINE = 2  # CRED_PERSIST_LOCAL_MACHINE


class _Credential(ctypes.Structure):
    """CREDENTIALW."""

    _fields_ = [
        ("flags", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("target_name", ctypes.c_wchar_p),
        ("comment", ctypes.c_wchar_p),
        ("last_written", ctypes.c_uint64),  # FILETIME: two numbers of 32 bits, never written by us
        ("blob_size", ctypes.c_uint32),
        ("blob", ctypes.c_void_p),
        ("persist", ctypes.c_uint32),
        ("attribute_count", ctypes.c_uint32),
        ("attributes", ctypes.c_void_p),
        ("target_alias", ctypes.c_wchar_p),
        ("user_name", ctypes.c_wchar_p),
    ]


class Credential(NamedTuple):
    """One that is stored: its target name, and the bytes that it holds."""

    name: str
    blob: bytes


class _Calls(NamedTuple):
    read: Any
    write: Any
    delete: Any
    enumerate: Any
    free: Any


_calls: _Calls | None = None


def read(name: str) -> bytes | None:
    """The bytes of the credential ``name``, None if there is none. Raises OSError."""
    calls = _bound()
    found = ctypes.POINTER(_Credential)()
    if not calls.read(name, _GENERIC, 0, ctypes.byref(found)):
        return None if last_error() == _NOT_FOUND else _raise("CredReadW")
    try:
        return _content(found.contents)
    finally:
        calls.free(found)


def write(name: str, blob: bytes, user: str, comment: str) -> None:
    """Store ``blob`` as ``name``, in place of what is there. ``user`` and ``comment`` are for people who look.

    Raises OSError; ValueError for a blob larger than LARGEST_BLOB, which not every Windows refuses by itself.
    """
    if len(blob) > LARGEST_BLOB:
        raise ValueError(f"a credential holds at most {LARGEST_BLOB} bytes")
    buffer = (ctypes.c_char * max(1, len(blob))).from_buffer_copy(blob or b"\0")
    made = _Credential(
        type=_GENERIC,
        target_name=name,
        comment=comment,
        blob_size=len(blob),
        blob=ctypes.addressof(buffer),
        persist=_LOCAL_MACHINE,
        user_name=user,
    )
    try:
        if not _bound().write(ctypes.byref(made), 0):
            _raise("CredWriteW")
    finally:
        ctypes.memset(buffer, 0, len(buffer))


def delete(name: str) -> bool:
    """Remove ``name``; False if it was not there. Raises OSError."""
    if _bound().delete(name, _GENERIC, 0):
        return True
    if last_error() != _NOT_FOUND:
        _raise("CredDeleteW")
    return False


def find(prefix: str) -> list[Credential]:
    """All generic credentials whose target names begin with ``prefix``, in any order. Raises OSError."""
    calls = _bound()
    count = ctypes.c_uint32()
    found = ctypes.POINTER(ctypes.POINTER(_Credential))()
    if not calls.enumerate(f"{prefix}*", 0, ctypes.byref(count), ctypes.byref(found)):
        return [] if last_error() == _NOT_FOUND else _raise("CredEnumerateW")
    try:
        all_of_them = [found[number].contents for number in range(count.value)]
        return [Credential(each.target_name, _content(each)) for each in all_of_them if each.type == _GENERIC]
    finally:
        calls.free(found)


def _content(found: _Credential) -> bytes:
    return ctypes.string_at(found.blob, found.blob_size) if found.blob_size else b""


def _bound() -> _Calls:
    global _calls  # noqa: PLW0603 - loaded when first used, once
    if _calls is None:
        advapi32 = system_dll("advapi32.dll")
        text, number, address = ctypes.c_wchar_p, ctypes.c_uint32, ctypes.c_void_p
        _calls = _Calls(
            bind(advapi32, "CredReadW", ctypes.c_int, text, number, number, address),
            bind(advapi32, "CredWriteW", ctypes.c_int, address, number),
            bind(advapi32, "CredDeleteW", ctypes.c_int, text, number, number),
            bind(advapi32, "CredEnumerateW", ctypes.c_int, text, number, address, address),
            bind(advapi32, "CredFree", None, address),
        )
    return _calls


def _raise(call: str) -> Any:
    number = last_error()
    raise OSError(number, f"{call} failed with error {number}")
