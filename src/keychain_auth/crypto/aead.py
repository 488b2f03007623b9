"""Sealing and opening of blobs: AES-256-GCM, a random nonce, a format byte in front.

A sealed blob is::

    1 byte   format, 0x01: AES-256-GCM with a 96-bit nonce and a 128-bit tag
    12 bytes nonce, random
    n bytes  ciphertext, as long as the plaintext
    16 bytes tag

``context`` (GCM's associated data) is not stored in the blob. It says *where* the blob belongs, and a blob
that is moved elsewhere does not open.

What it does not promise: more than 2^32 blobs under one key. NIST SP 800-38D, section 8.3, sets that limit for
random 96-bit nonces; a vault that writes ten secrets a second reaches it after 13 years.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from operator import add

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
FORMAT = b"\x01"
_FORMAT_NUMBER = FORMAT[0]
_NONCE_BYTES = 12
_NONCE_END = 1 + _NONCE_BYTES
OVERHEAD = _NONCE_END + 16
"""Bytes that a sealed blob is longer than its plaintext."""


class NotAuthentic(Exception):
    """The blob was altered, or belongs to another place or key. It carries nothing."""


class Aead:
    """One AES-256-GCM key, expanded once. May be used by several threads at the same time."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes | bytearray | memoryview) -> None:
        """``key`` is 32 bytes. OpenSSL copies it, and clears its copy when this object goes."""
        if len(key) != KEY_BYTES:
            raise ValueError("an AES-256 key has 32 bytes")
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes | bytearray | memoryview, context: bytes) -> bytes:
        """``plain`` encrypted and bound to ``context``."""
        nonce = os.urandom(_NONCE_BYTES)
        return FORMAT + nonce + self._cipher.encrypt(nonce, plain, context)

    def seal_all(self, plains: Sequence[bytes], kind: bytes, contexts: Sequence[bytes]) -> list[bytes]:
        """Each plaintext encrypted and bound to ``kind`` and its context, as ``seal`` does.

        The random numbers are fetched once, and no bytecode runs for a single one: a third of what sealing costs.
        """
        if len(plains) != len(contexts):
            raise ValueError("each plaintext has its context")
        random = os.urandom(_NONCE_BYTES * len(plains))
        nonces = [random[at : at + _NONCE_BYTES] for at in range(0, len(random), _NONCE_BYTES)]
        sealed = map(self._cipher.encrypt, nonces, plains, map(kind.__add__, contexts))
        return list(map(add, map(FORMAT.__add__, nonces), sealed))

    def open_into(self, blob: bytes, context: bytes, into: memoryview) -> None:
        """The plaintext of ``blob`` into ``into``, which has just its length: no other copy is made.

        Raises NotAuthentic; then ``into`` is zeroed.
        """
        if len(blob) != len(into) + OVERHEAD or blob[0] != _FORMAT_NUMBER:
            raise NotAuthentic
        try:
            self._cipher.decrypt_into(blob[1:_NONCE_END], blob[_NONCE_END:], context, into)
        except InvalidTag:
            into[:] = bytes(len(into))
            raise NotAuthentic from None

    def open(self, blob: bytes, context: bytes) -> bytes:
        """The plaintext of ``blob``. Raises NotAuthentic."""
        if len(blob) < OVERHEAD or blob[0] != _FORMAT_NUMBER:
            raise NotAuthentic
        try:
            return self._cipher.decrypt(blob[1:_NONCE_END], blob[_NONCE_END:], context)
        except InvalidTag:
            raise NotAuthentic from None

    def opener(self, kind: bytes) -> Callable[[bytes, bytes], bytes]:
        """A function that opens a blob as ``open`` does, its context being ``kind`` and what it is given.

        What it needs lies in its own cells: attributes looked up anew are a third of what opening a short blob costs.
        """
        decrypt = self._cipher.decrypt

        def opened(blob: bytes, context: bytes) -> bytes:
            if len(blob) < OVERHEAD or blob[0] != _FORMAT_NUMBER:
                raise NotAuthentic
            try:
                return decrypt(blob[1:_NONCE_END], blob[_NONCE_END:], kind + context)
            except InvalidTag:
                raise NotAuthentic from None

        return opened


def scrub_stack() -> None:
    """Overwrite what the last use of a key left on this thread's stack.

    OpenSSL expands an AES key there, and the rounds of it stay until something else needs the space: on an idle thread,
    for ever. So the thread does the same once more, with a key that is none.
    """
    Aead(bytes(KEY_BYTES)).seal(b"", b"")
