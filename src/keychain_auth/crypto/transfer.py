"""How a value crosses the bus to a Secret Service and back: dh-ietf1024-sha256-aes128-cbc-pkcs7.

The algorithm is the Secret Service's own (freedesktop.org, Secret Service API, "Transfer of Secrets"): Diffie-Hellman
in the second Oakley group (RFC 2409, section 6.2), HKDF-SHA256 without salt and info, AES-128-CBC, PKCS #7 padding.

What it does not promise: authenticity, or secrecy from somebody who takes part. The other side is not authenticated,
CBC is not either, and a group of 1024 bits is small today. It keeps values out of the memory of the bus, and out of
what a monitor of the bus records; that is all the Secret Service asks of it.
"""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

ALGORITHM = "dh-ietf1024-sha256-aes128-cbc-pkcs7"
_BYTES = 128
_BLOCK = 16
_GENERATOR = 2
_PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
    16,
)


class BadTransfer(Exception):
    """What came over is no public key, or no encrypted value. It carries nothing."""


class TransferKey:
    """Encrypts and decrypts the values of one session."""

    def __init__(self, key: bytes) -> None:
        """``key``: 16 bytes."""
        self._algorithm = AES128(key)

    def seal(self, plain: bytes) -> tuple[bytes, bytes]:
        """Initialisation vector and ciphertext."""
        padder = PKCS7(_BLOCK * 8).padder()
        vector = os.urandom(_BLOCK)
        encryptor = Cipher(self._algorithm, CBC(vector)).encryptor()
        padded = padder.update(plain) + padder.finalize()
        return vector, encryptor.update(padded) + encryptor.finalize()

    def open(self, vector: bytes, sealed: bytes) -> bytes:
        """The value. Raises BadTransfer."""
        try:
            decryptor = Cipher(self._algorithm, CBC(vector)).decryptor()
            padded = decryptor.update(sealed) + decryptor.finalize()
            unpadder = PKCS7(_BLOCK * 8).unpadder()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError:
            pass
        raise BadTransfer


class Exchange:
    """Our half of one exchange. ``public`` goes to the other side."""

    def __init__(self) -> None:
        self._private = int.from_bytes(os.urandom(_BYTES), "big") % (_PRIME - 3) + 2
        self.public = pow(_GENERATOR, self._private, _PRIME).to_bytes(_BYTES, "big")

    def key_with(self, public: bytes) -> TransferKey:
        """The key that both sides know once ``public`` of the other side is here. Raises BadTransfer."""
        theirs = int.from_bytes(public, "big")
        if not 1 < theirs < _PRIME - 1:  # 0, 1 and -1 would make the secret one that everybody can guess
            raise BadTransfer
        shared = pow(theirs, self._private, _PRIME).to_bytes(_BYTES, "big")
        return TransferKey(HKDF(algorithm=SHA256(), length=16, salt=None, info=b"").derive(shared))
