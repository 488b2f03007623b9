"""Ed25519 keys and signatures (RFC 8032), in the forms that OpenSSL reads and writes.

Contract: keys are PKCS #8 and SubjectPublicKeyInfo in PEM, as ``openssl genpkey -algorithm ed25519`` makes them.
``Verification`` checks a signature over a message of any length in constant memory and without holding the
interpreter's lock for long: the message is hashed piece by piece, and only the last equation is calculated here
(``identity.edwards``, about 1.5 ms). ``cryptography`` signs, and checks short messages.

What it does not promise: signing in constant memory. Ed25519 needs the message twice, and the second time with a
secret; who signs something large signs its digest.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from keychain_auth.identity.edwards import decode_key, holds


class NotAKey(Exception):
    """The text is no Ed25519 key; the message says what it is instead, never what it holds."""


class PassphraseNeeded(Exception):
    """The private key is encrypted, and no passphrase was given, or a wrong one."""


class SigningKey:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @staticmethod
    def generate() -> SigningKey:
        """A new one."""
        return SigningKey(Ed25519PrivateKey.generate())

    @staticmethod
    def load(pem: bytes, passphrase: bytes | None = None) -> SigningKey:
        """From PEM. Raises NotAKey, PassphraseNeeded."""
        try:
            key = serialization.load_pem_private_key(pem, passphrase)
        except TypeError:  # encrypted without a passphrase, or the other way round
            if passphrase is not None:
                return SigningKey.load(pem)
            raise PassphraseNeeded from None
        except (ValueError, UnsupportedAlgorithm):
            if passphrase is not None:
                raise PassphraseNeeded from None
            raise NotAKey("it is no private key in PEM") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise NotAKey("it is a private key, but not of Ed25519")
        return SigningKey(key)

    def pem(self) -> bytes:
        """PKCS #8 in PEM, not encrypted."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """64 bytes: the signature of ``message``, which may be any object with a buffer of bytes."""
        return self._key.sign(message)


def load_public(pem: bytes) -> bytes:
    """The 32 bytes of a public key in PEM. Raises NotAKey."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise NotAKey("it is no public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise NotAKey("it is a public key, but not of Ed25519")
    return key.public_bytes_raw()


def verify_short(key: bytes, signature: bytes, message: bytes) -> bool:
    """Does ``signature`` fit the 32-byte ``key`` and a ``message`` that is in memory anyway?"""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Verification:
    """One signature under one key, over a message that comes in pieces."""

    def __init__(self, key: bytes, signature: bytes) -> None:
        """``key`` is 32 bytes that ``identity.signature.checked_key`` accepted; another never fits anything."""
        self.key = key
        self._point = decode_key(key)
        self._signature = signature
        self._hash = hashlib.sha512(signature[:32] + key)

    def update(self, piece: bytes | memoryview) -> None:
        """The next bytes of the message."""
        self._hash.update(piece)

    def fits(self) -> bool:
        """Is it a signature of the message so far?"""
        k = int.from_bytes(self._hash.digest(), "little")
        return self._point is not None and holds(self._point, self._signature, k)
