"""A file that only a passphrase opens: for backups, which leave the machine.

Contract: what comes out is what went in, whole, or an error. A file that was cut, altered, put together from two, or
belongs to another purpose does not open. The form, in bytes::

    keychain-auth <purpose> 1\n
    {"check":…,"created":…,"lanes":…,"memory_kib":…,"passes":…,"salt":…}\n
    then blobs as in ``aead``, each of at most 64 KiB of plaintext, each with its length (4 bytes) in front

The key is HKDF(Argon2id(passphrase, salt), purpose), new for each file because its salt is. Each blob is bound to the
whole header, its number, and whether it is the last one. ``check`` is a fingerprint of the key: it tells a wrong
passphrase from a damaged file, and gives nobody a cheaper guess than the blobs themselves do.

What it does not promise: that a short passphrase resists. Who has the file has all the time in the world, at about half
a second and 64 MiB for each guess of one machine.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import unicodedata
from hashlib import sha256

import msgspec

from keychain_auth.crypto.aead import OVERHEAD, Aead, NotAuthentic
from keychain_auth.crypto.kdf import joined, subkey, wipe
from keychain_auth.crypto.stretch import SALT_BYTES, Cost, stretch

COST = Cost(memory_kib=64 * 1024, passes=8, lanes=4)
_CHUNK = 64 * 1024
_LENGTH_BYTES = 4
_LONGEST_HEADER = 4096
_CHECK_BYTES = 16


class NotAStrongbox(Exception):
    """The file is no such file, was cut, or was altered. The text says where, never what."""


class WrongKey(Exception):
    """The passphrase is not the one that the file was made with."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    check: str
    created: str
    lanes: int
    memory_kib: int
    passes: int
    salt: str


def seal(purpose: str, passphrase: str, plain: bytes, created: str, cost: Cost = COST) -> bytes:
    """``plain`` as such a file. ``created``: a time, readable by all. Takes about half a second; not for the loop."""
    salt = secrets.token_bytes(SALT_BYTES)
    key = _key(purpose, passphrase, salt, cost)
    header = _Header(_check(key), created, cost.lanes, cost.memory_kib, cost.passes, base64.b64encode(salt).decode())
    front = _title(purpose) + msgspec.json.encode(header) + b"\n"
    cipher, binding = Aead(key), sha256(front).digest()
    parts = [front]
    starts = range(0, len(plain), _CHUNK) or range(1)
    for number, start in enumerate(starts):
        last = start + _CHUNK >= len(plain)
        blob = cipher.seal(plain[start : start + _CHUNK], _context(binding, number, last))
        parts += [len(blob).to_bytes(_LENGTH_BYTES, "big"), blob]
    return b"".join(parts)


def unseal(purpose: str, passphrase: str, content: bytes) -> bytes:
    """What was sealed. Takes about half a second; not for the loop. Raises NotAStrongbox, WrongKey."""
    header, end = _header(purpose, content)
    try:
        salt = base64.b64decode(header.salt, validate=True)
        if len(salt) != SALT_BYTES:
            raise ValueError
        cost = Cost(header.memory_kib, header.passes, header.lanes).check()
    except (binascii.Error, ValueError):
        raise NotAStrongbox("its header does not hold what it must") from None
    key = _key(purpose, passphrase, salt, cost)
    if not hmac.compare_digest(_check(key).encode(), header.check.encode()):
        raise WrongKey
    cipher, binding = Aead(key), sha256(content[:end]).digest()
    plain = bytearray()
    number, at, last = 0, end, False
    while not last:
        length = int.from_bytes(content[at : at + _LENGTH_BYTES], "big")
        start = at + _LENGTH_BYTES
        if not OVERHEAD <= length <= _CHUNK + OVERHEAD or start + length > len(content):
            raise NotAStrongbox(f"it was cut or altered at byte {at}")
        at = start + length
        last = at == len(content)
        try:
            plain += cipher.open(content[start:at], _context(binding, number, last))
        except NotAuthentic:
            raise NotAStrongbox(f"it was cut or altered at byte {start}") from None
        number += 1
    return bytes(plain)


def created(purpose: str, content: bytes) -> str:
    """When the file says that it was made; not yet authenticated. Raises NotAStrongbox."""
    return _header(purpose, content)[0].created


def _header(purpose: str, content: bytes) -> tuple[_Header, int]:
    title = _title(purpose)
    if not content.startswith(title):
        raise NotAStrongbox(f"it does not begin with {title.decode().strip()!r}")
    end = content.find(b"\n", len(title), _LONGEST_HEADER)
    try:
        if end < 0:
            raise ValueError
        return msgspec.json.decode(content[len(title) : end], type=_Header), end + 1
    except ValueError:
        raise NotAStrongbox("its header does not hold what it must") from None


def _title(purpose: str) -> bytes:
    return f"keychain-auth {purpose} 1\n".encode()


def _key(purpose: str, passphrase: str, salt: bytes, cost: Cost) -> bytes:
    # NFC, as RFC 8265 (4.2.2) has it for passwords: two keyboards may write one letter in two ways.
    stretched = stretch(unicodedata.normalize("NFC", passphrase).encode(), salt, cost)
    try:
        return bytes(subkey(stretched, salt, f"{purpose} 1"))
    finally:
        wipe(stretched)


def _check(key: bytes) -> str:
    return bytes(subkey(key, b"", "strongbox check"))[:_CHECK_BYTES].hex()


def _context(binding: bytes, number: int, last: bool) -> bytes:
    return joined((b"strongbox", binding, number.to_bytes(8, "big"), b"last" if last else b"more"))
