"""What the end of a signed program says, and which keys may have signed it. Pure.

Contract (protocol, section "Signed programs"). A signed file ends in::

    64 bytes  Ed25519 signature
     4 bytes  KCAS

The signature is over everything before these 68 bytes, or over the SHA-256 digest of that. In front of the 68 bytes,
and so covered by the signature, may stand a block of ours that says more about it::

     1 byte   format, 0x01
     8 bytes  build number, unsigned, big-endian, below 2^63
    32 bytes  public key of the signer
     4 bytes  length of the above (41), big-endian
     8 bytes  KCA-META

Who knows only the 68 bytes verifies such a file as any other.

What a signature does not say: that the program is harmless, or the newest. It says who signed these bytes, once.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection

import msgspec

from keychain_auth.identity.edwards import decode_key

MAGIC = b"KCAS"
SIGNATURE_BYTES = 64
TRAILER_BYTES = SIGNATURE_BYTES + len(MAGIC)
KEY_BYTES = 32

_BLOCK_MAGIC = b"KCA-META"
_BLOCK_FORMAT = 1
_LENGTH_BYTES = 4
_BUILD_BYTES = 8
_FIELDS_BYTES = 1 + _BUILD_BYTES + KEY_BYTES
BLOCK_BYTES = _FIELDS_BYTES + _LENGTH_BYTES + len(_BLOCK_MAGIC)
TAIL_BYTES = BLOCK_BYTES + TRAILER_BYTES
"""So many bytes at the end of a file say all that there is to say about its signature."""
LARGEST_BUILD = 2**63 - 1

# SubjectPublicKeyInfo of an Ed25519 key (RFC 8410, section 4): always these bytes, then the key.
_DER_PREFIX = bytes.fromhex("302a300506032b6570032100")


class Trailer(msgspec.Struct, frozen=True, gc=False):
    """The end of a file that claims to be signed. Nothing of it is verified.

    ``covered``: the signature is over so many bytes from the start of the file. ``build`` and ``key`` are None without
    a block of ours. ``problem`` says why a signature of this form counts for nothing, or is empty.
    """

    signature: bytes
    covered: int
    build: int | None = None
    key: bytes | None = None
    problem: str = ""


def parse_trailer(tail: bytes, size: int) -> Trailer | None:
    """What ``tail``, the last TAIL_BYTES (or all) of a file of ``size`` bytes, says; None if the file is not signed."""
    if len(tail) < TRAILER_BYTES or not tail.endswith(MAGIC):
        return None
    signature = tail[-TRAILER_BYTES : -len(MAGIC)]
    covered = size - TRAILER_BYTES
    before = tail[:-TRAILER_BYTES]
    if not before.endswith(_BLOCK_MAGIC):
        return Trailer(signature, covered)
    block = before[-BLOCK_BYTES:]
    length = int.from_bytes(block[-len(_BLOCK_MAGIC) - _LENGTH_BYTES : -len(_BLOCK_MAGIC)], "big")
    if len(block) < BLOCK_BYTES or length != _FIELDS_BYTES or block[0] != _BLOCK_FORMAT:
        return Trailer(signature, covered, problem="its signature has a form that this version does not know")
    build = int.from_bytes(block[1 : 1 + _BUILD_BYTES], "big")
    if build > LARGEST_BUILD:
        return Trailer(signature, covered, problem=f"its build number is above {LARGEST_BUILD}")
    return Trailer(signature, covered, build, block[1 + _BUILD_BYTES : _FIELDS_BYTES])


def block(build: int, key: bytes) -> bytes:
    """The block that says ``build`` (0 to LARGEST_BUILD) and the signer's 32-byte public key."""
    fields = bytes((_BLOCK_FORMAT,)) + build.to_bytes(_BUILD_BYTES, "big") + key
    return fields + len(fields).to_bytes(_LENGTH_BYTES, "big") + _BLOCK_MAGIC


def trailer(signature: bytes) -> bytes:
    """The last 68 bytes of a file that has ``signature``."""
    return signature + MAGIC


def unsigned_size(found: Trailer) -> int:
    """How many bytes of the file are neither signature nor block."""
    return found.covered - (BLOCK_BYTES if found.build is not None else 0)


def candidates(found: Trailer, trusted: Collection[bytes]) -> tuple[bytes, ...]:
    """Those of the ``trusted`` keys that are worth trying: the one that the block names, or each if none is named."""
    if found.problem:
        return ()
    if found.key is not None:
        return (found.key,) if found.key in trusted else ()
    return tuple(trusted)


def parse_public_key(text: str) -> bytes:
    """The 32 bytes of a public key that is given in base64, raw or as DER SubjectPublicKeyInfo.

    Raises ValueError, whose text says what is wrong with it.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    return checked_key(data)


def checked_key(data: bytes) -> bytes:
    """As ``parse_public_key``, for the bytes themselves."""
    if data.startswith(_DER_PREFIX):
        data = data[len(_DER_PREFIX) :]
    if len(data) != KEY_BYTES:
        raise ValueError("not an Ed25519 public key: 32 bytes, or DER SubjectPublicKeyInfo")
    if decode_key(data) is None:
        raise ValueError("not a usable Ed25519 public key: no point of the curve, or one that proves nothing")
    return data


def key_text(key: bytes) -> str:
    """A public key as it is shown and written: base64 of its 32 bytes."""
    return base64.b64encode(key).decode("ascii")
