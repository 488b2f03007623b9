"""The passphrase: a key that lies nowhere, because it is in a person's head.

What it stops: whoever copies the files, and every program of the same user while the vault is locked. What it does
*not* stop: a program of the same user that watches the person type it, shows a prompt that looks like ours, or reads
the memory of the command that asked (ptrace). Nor somebody who guesses: each guess costs an Argon2id, no more.

Passphrases are compared as Unicode in form NFC (RFC 8265, section 4.2.2): two keyboards that write "é" differently type
the same passphrase.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import unicodedata

from keychain_auth.crypto.envelope import Key, Params
from keychain_auth.crypto.stretch import SALT_BYTES, Cost, calibrate, stretch
from keychain_auth.errors import UsageError, VaultError

KIND = "passphrase"
SHORTEST = 8
LONGEST = 1024
SECONDS = 0.5
"""What one attempt shall take on the machine where the slot was made."""


class Passphrase:
    """The protector of kind ``passphrase``, with the words that a person gave. ``forget`` wipes them."""

    kind = KIND
    asked = True

    def __init__(self, words: str, seconds: float = SECONDS) -> None:
        self._words = bytearray(_bytes_of(words))
        self._seconds = seconds

    def present(self) -> bool:
        """Never: it leaves nothing on this machine."""
        return False

    def create(self) -> tuple[Params, Key]:
        """A new salt, a cost fit for this machine, and the key. Takes a second. Raises UsageError, VaultError."""
        words = self._words.decode()
        if len(words) < SHORTEST:
            raise UsageError(f"a passphrase has at least {SHORTEST} characters; six random words are a good one")
        salt, cost = secrets.token_bytes(SALT_BYTES), calibrate(self._seconds)
        params = {"salt": base64.b64encode(salt).decode(), **{name: str(n) for name, n in cost._asdict().items()}}
        return params, self._stretched(salt, cost)

    def commit(self) -> None:
        """Nothing to keep."""

    def withdraw(self, params: Params) -> None:
        """Nothing to remove."""

    def unwrap_key(self, params: Params) -> Key:
        """The key that these words give: the right one if they are the right ones. Takes about half a second."""
        try:
            salt = base64.b64decode(params["salt"], validate=True)
            cost = Cost(*(int(params[name]) for name in Cost._fields)).check()
        except (KeyError, binascii.Error):
            raise ValueError("parameters of a passphrase slot are missing") from None
        return self._stretched(salt, cost)

    def forget(self) -> None:
        """Overwrite the words."""
        self._words[:] = bytes(len(self._words))

    def _stretched(self, salt: bytes, cost: Cost) -> bytearray:
        try:
            return stretch(self._words, salt, cost)
        except MemoryError:
            raise VaultError(
                f"there is no memory for the passphrase: {cost.memory_kib // 1024} MiB are needed", hint="free -m"
            ) from None


def _bytes_of(words: str) -> bytes:
    try:
        encoded = unicodedata.normalize("NFC", words).encode()
    except UnicodeEncodeError:
        encoded = b""
    if not encoded or len(encoded) > LONGEST:
        # Outside of the handler: the error of the codec holds the text.
        raise UsageError(f"a passphrase is text in UTF-8, not empty, of at most {LONGEST} bytes")
    return encoded
