"""Keys from keys, names from names: HKDF, HMAC and keyed BLAKE2b, each for one purpose.

One key never serves two purposes: ``subkey`` gives each purpose a key of its own, and who learns one of
them learns nothing about the others (RFC 5869).

What it does not promise: that keys vanish from memory. ``wipe`` overwrites a buffer that we own. Immutable
``bytes`` objects, the copies inside ``cryptography`` and OpenSSL, and what the allocator leaves behind
cannot be overwritten from Python; the daemon keeps them out of core dumps, swap files and debuggers instead.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_LENGTH_BYTES = 4


def subkey(key: bytes | bytearray | memoryview, salt: bytes, purpose: str) -> bytes:
    """32 bytes for ``purpose``, derived from the 32-byte ``key`` (HKDF-SHA256, RFC 5869)."""
    info = b"keychain-auth " + purpose.encode()
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


def subkey_into(key: bytes | bytearray | memoryview, salt: bytes, purpose: str, into: bytearray | memoryview) -> None:
    """As ``subkey``, into a buffer of 32 bytes that can be wiped later."""
    info = b"keychain-auth " + purpose.encode()
    HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive_into(key, into)


def joined(parts: Iterable[bytes]) -> bytes:
    """``parts`` as one string that no other list of parts gives: each with its length in front.

    With a separator ``svc`` + ``prod:pw`` and ``svc:prod`` + ``pw`` would be the same.
    """
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)


def pseudonym(key: bytes | bytearray, *parts: bytes) -> bytes:
    """32 bytes that stand for ``parts`` and tell nothing about them without ``key`` (HMAC-SHA256)."""
    return hmac.digest(key, joined(parts), "sha256")


def fingerprint(key: bytes | bytearray, message: bytes) -> int:
    """A 256-bit number for ``message`` that nobody can predict without ``key`` (BLAKE2b, RFC 7693).

    The XOR of many of them is a fingerprint of the *set*: it can be kept up to date one element at a time. That is
    safe only as long as neither the numbers nor their XOR are shown to anybody without the key.
    """
    return int.from_bytes(hashlib.blake2b(message, key=key, digest_size=32).digest(), "big")


def random_key() -> bytearray:
    """32 random bytes in a buffer that can be wiped; ``os.urandom`` would leave a copy that cannot."""
    key = bytearray(32)
    with open("/dev/urandom", "rb", buffering=0) as source:
        if source.readinto(key) != len(key):
            raise OSError("the system's random numbers end")
    return key


def wipe(buffer: bytearray | memoryview) -> None:
    """Overwrite ``buffer`` with zeros, in place."""
    buffer[:] = bytes(len(buffer))
