"""The recovery code: a random key that is printed once, for the day when every other slot is gone.

160 random bits in Crockford's base32, nine groups of four; the last group is a checksum, so that a mistyped code is
told apart from a wrong one::

    7ZKQ-M2RB-0X4D-9HTW-C8VN-5EJA-3PGS-6Y1F-K0RM

What it stops: whoever copies the files, as the passphrase does; and it cannot be guessed. What it does *not* stop:
whoever finds the paper. It lies nowhere on this machine.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

from keychain_auth.crypto.envelope import Key, Params
from keychain_auth.crypto.kdf import subkey_into, wipe

KIND = "recovery"
_BYTES = 20
_SALT_BYTES = 16
_GROUP = 4
_CHECK = 4  # characters, 20 bits: one mistyped code in a million is taken for another one
# No I, L, O, U: they are read as 1, 1, 0 and V (crockford.com/base32.html).
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RFC4648 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TO_CROCKFORD = str.maketrans(_RFC4648, _ALPHABET)
_FROM_CROCKFORD = str.maketrans(_ALPHABET, _RFC4648)
_READ_AS = str.maketrans("ILOU", "110V")
_LENGTH = _BYTES * 8 // 5 + _CHECK


class RecoveryCode:
    """The protector of kind ``recovery``. ``code``: what a person typed; none to make a new one."""

    kind = KIND
    asked = True

    def __init__(self, code: bytearray | None = None) -> None:
        self._code = code if code is not None else bytearray(secrets.token_bytes(_BYTES))

    def text(self) -> str:
        """The code as it is printed."""
        payload = base64.b32encode(self._code).decode().translate(_TO_CROCKFORD)
        whole = payload + _checksum(payload)
        return "-".join(whole[at : at + _GROUP] for at in range(0, len(whole), _GROUP))

    def present(self) -> bool:
        """Never: it is on paper."""
        return False

    def create(self) -> tuple[Params, Key]:
        """A salt, and the key."""
        params = {"salt": secrets.token_bytes(_SALT_BYTES).hex()}
        return params, self.unwrap_key(params)

    def commit(self) -> None:
        """Nothing to keep."""

    def withdraw(self, params: Params) -> None:
        """Nothing to remove."""

    def unwrap_key(self, params: Params) -> Key:
        """The key that this code gives. 160 random bits need no stretching."""
        salt = bytes.fromhex(params.get("salt", ""))
        if len(salt) != _SALT_BYTES:
            raise ValueError("parameters of a recovery slot are missing")
        key = bytearray(32)
        subkey_into(self._code, salt, "recovery code 1", key)
        return key

    def forget(self) -> None:
        """Overwrite the code."""
        wipe(self._code)


def parse(text: str) -> RecoveryCode | None:
    """What ``text`` says as a recovery code; None if it is none (a character is missing, wrong, or mistyped).

    Case, spaces and dashes do not count, and I, L, O, U are read as the digits and letters that they look like.
    """
    whole = "".join(text.split()).replace("-", "").upper()
    if len(whole) != _LENGTH or not whole.isascii():
        return None
    whole = whole.translate(_READ_AS)
    payload, check = whole[:-_CHECK], whole[-_CHECK:]
    if any(char not in _ALPHABET for char in whole) or _checksum(payload) != check:
        return None
    return RecoveryCode(bytearray(base64.b32decode(payload.translate(_FROM_CROCKFORD))))


def _checksum(payload: str) -> str:
    number = int.from_bytes(hashlib.sha256(payload.encode()).digest()[:3], "big") >> 4
    return "".join(_ALPHABET[number >> shift & 31] for shift in (15, 10, 5, 0))
