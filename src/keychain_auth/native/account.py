"""The account that this process runs as, by the name that Windows itself uses for it.

Contract: ``DOMAIN\\\\NAME`` (GetUserNameExW, NameSamCompatible), from the process's token, not from a variable that
anybody can set. Raises OSError.
"""

from __future__ import annotations

import ctypes

from keychain_auth.native.library import bind, last_error, system_dll

_SAM_COMPATIBLE = 2  # EXTENDED_NAME_FORMAT
_MOST = 1024  # characters: a domain has 255, an account 256 at most


def account_name() -> str:
    """The name of the account that runs this process."""
    get = bind(
        system_dll("secur32.dll"), "GetUserNameExW", ctypes.c_ubyte, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
    )
    text, length = ctypes.create_unicode_buffer(_MOST), ctypes.c_uint32(_MOST)
    if not get(_SAM_COMPATIBLE, text, ctypes.byref(length)):
        number = last_error()
        raise OSError(number, f"GetUserNameExW failed with error {number}")
    return text.value
