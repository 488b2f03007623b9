"""SHA-256 of an opened file and, if it is signed, whose signature it is, in constant memory.

A signature over the digest costs one pass, the one that every file needs. One over the bytes costs a second pass, in
which all is hashed once more: a signature that is found belongs to the hash beside it, whatever somebody does to the
file meanwhile. That pass makes one SHA-512 for each key that is tried (``identity.signature.candidates``), and each key
takes 1.5 ms at its end.

The file is not mapped: a mapping of a file that is cut short ends the process that looks at it (SIGBUS), and the file
is a stranger's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from keychain_auth.crypto.ed25519 import Verification, verify_short
from keychain_auth.identity.signature import TAIL_BYTES, Trailer, candidates, parse_trailer
from keychain_auth.model import Signature
from keychain_auth.oslayer import system
from keychain_auth.platform.base import FileTooLarge, Pace

_CHUNK = 1024 * 1024


class _Reader(Protocol):
    def update(self, piece: memoryview, /) -> None: ...


class Examined(msgspec.Struct, frozen=True, gc=False):
    """SHA-256 of the whole file in hex, what its end claims, and the signature that one of the keys vouches for.

    ``digested``: the signature is over the SHA-256 digest, not over the bytes.
    """

    sha256: str
    trailer: Trailer | None
    signature: Signature | None
    digested: bool = False

    @property
    def is_signed(self) -> bool:
        """Does its end claim a signature that some key could be right for?"""
        return self.trailer is not None and not self.trailer.problem


def without_rest() -> None:
    """The pace of a read that nobody has to be spared."""


def examine(fd: int, size: int, keys: Collection[bytes], limit: int, pace: Pace = without_rest) -> Examined:
    """Read the file behind ``fd``, of ``size`` bytes when it was looked at; ``pace`` is called after each MiB and key.

    Raises FileTooLarge, OSError, and what ``pace`` raises.
    """
    found = parse_trailer(system.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES)), size)
    state = hashlib.sha256()
    covered = size if found is None else found.covered
    _feed(fd, 0, covered, [state], pace)
    digest = state.digest()
    if _feed(fd, covered, limit + 1, [state], pace) > limit:
        raise FileTooLarge(f"it grew beyond {limit} bytes while it was read")
    sha256 = state.hexdigest()
    if found is None:
        return Examined(sha256, None, None)
    tried = candidates(found, keys)
    for key in tried:
        if verify_short(key, found.signature, digest):
            return Examined(sha256, found, Signature(key, found.build), digested=True)
    signer = _signer_of_bytes(fd, found, digest, tried, pace)
    return Examined(sha256, found, None if signer is None else Signature(signer, found.build))


def _signer_of_bytes(fd: int, found: Trailer, digest: bytes, keys: Collection[bytes], pace: Pace) -> bytes | None:
    """Which of ``keys`` signed the bytes that have ``digest``."""
    if not keys:
        return None
    again = hashlib.sha256()
    checks = [Verification(key, found.signature) for key in keys]
    _feed(fd, 0, found.covered, [again, *checks], pace)
    if again.digest() != digest:
        return None
    for check in checks:
        if check.fits():
            return check.key
        pace()  # the equation is Python, and holds up every other thread
    return None


def _feed(fd: int, start: int, end: int, readers: Sequence[_Reader], pace: Pace) -> int:
    """Give each reader the bytes from ``start`` to ``end``, or to the end of the file; where that was."""
    buffer = memoryview(bytearray(_CHUNK))
    while start < end and (count := system.preadv(fd, [buffer[: end - start]], start)):
        start += count
        for reader in readers:
            reader.update(buffer[:count])
        pace()
    return start
