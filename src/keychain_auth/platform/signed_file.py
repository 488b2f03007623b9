"""SHA-256 of an opened file and, if it is signed, whose signature it is: one pass over the bytes, constant memory.

Both come from the same bytes of the same read, so a verified signature always belongs to the hash beside it, whatever
somebody does to the file meanwhile. The file is not mapped: a mapping of a file that is cut short ends the process that
looks at it (SIGBUS), and the file is a stranger's.

What it costs: SHA-512 beside SHA-256 for each key that is tried (``identity.signature.candidates``), and 1.5 ms for
each equation.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection

import msgspec

from keychain_auth.crypto.ed25519 import Verification, verify_short
from keychain_auth.identity.signature import TAIL_BYTES, Trailer, candidates, parse_trailer
from keychain_auth.model import Signature
from keychain_auth.platform.base import FileTooLarge, Pace

_CHUNK = 1024 * 1024


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
    """Read the file behind ``fd``, of ``size`` bytes when it was looked at; ``pace`` is called after each MiB.

    Raises FileTooLarge, OSError, and what ``pace`` raises.
    """
    found = parse_trailer(os.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES)), size)
    checks = [] if found is None else [Verification(key, found.signature) for key in candidates(found, keys)]
    covered = size if found is None else found.covered
    state = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    position = 0
    while count := os.preadv(fd, [buffer[: min(_CHUNK, covered - position)]], position) if position < covered else 0:
        position += count
        state.update(buffer[:count])
        for check in checks:
            check.update(buffer[:count])
        pace()
    digest = state.digest()
    while count := os.preadv(fd, [buffer], position):
        position += count
        state.update(buffer[:count])
        if position > limit:
            raise FileTooLarge(f"it grew beyond {limit} bytes while it was read")
        pace()
    return _judged(state.hexdigest(), digest, found, checks)


def _judged(sha256: str, digest: bytes, found: Trailer | None, checks: list[Verification]) -> Examined:
    if found is not None:
        for check in checks:
            digested = verify_short(check.key, found.signature, digest)
            if digested or check.fits():
                return Examined(sha256, found, Signature(check.key, found.build), digested)
    return Examined(sha256, found, None)
