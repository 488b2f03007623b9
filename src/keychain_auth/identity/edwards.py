"""The curve of Ed25519 (RFC 8032, section 5.1), as far as checking a signature needs it. Pure.

Contract: ``holds`` is the equation that OpenSSL checks: [S]B = R + [k]A without the cofactor, R compared as bytes,
S below the order of the base point. ``k`` is given, so that whoever calls can hash a message of any length piece by
piece; the usual libraries want all of it in memory.

What this does not promise: constant time. Everything here is public: keys, signatures, hashes. Never use it to sign.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, P) % P
_ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
_DIGIT_BITS = 4
_DIGITS = 64  # of a number below 2^256

# Extended coordinates (X, Y, Z, T): x = X/Z, y = Y/Z, xy = T/Z.
Point: TypeAlias = tuple[int, int, int, int]
_NEUTRAL: Point = (0, 1, 1, 0)


def decode_key(key: bytes) -> Point | None:
    """The point that 32 bytes of a public key stand for, or None for one that may not be trusted.

    Not trusted, though OpenSSL would calculate with them: the eight points of small order (under such a key anybody
    can sign anything), and a second spelling of a point (y not below p, or a sign for x = 0).
    """
    point = _decode(key)
    if point is None or _is_neutral(_times_cofactor(point)):
        return None
    return point


def holds(key: Point, signature: bytes, k: int) -> bool:
    """Does the 64-byte ``signature`` fit ``key``, ``k`` being SHA-512 of R, the key's bytes and the message?"""
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= ORDER:  # a larger S would be a second signature for the same message
        return False
    return _encode(_combine(s, k % ORDER, _negative(key))) == signature[:32]


def _combine(s: int, k: int, point: Point) -> Point:
    """[s]B + [k]point: four bits of both numbers at a time, highest first (Straus)."""
    ours, theirs = _multiples_of_base(), _multiples(point)
    total = _NEUTRAL
    for digit in reversed(range(_DIGITS)):
        for _ in range(_DIGIT_BITS):
            total = _double(total)
        shift = digit * _DIGIT_BITS
        total = _add(total, ours[s >> shift & 15])
        total = _add(total, theirs[k >> shift & 15])
    return total


def _multiples(point: Point) -> list[Point]:
    table = [_NEUTRAL]
    for _ in range(15):
        table.append(_add(table[-1], point))
    return table


@functools.lru_cache(maxsize=1)
def _multiples_of_base() -> list[Point]:
    base = _decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    if base is None:
        raise AssertionError("the base point lies on the curve")
    return _multiples(base)


def _add(one: Point, other: Point) -> Point:
    """RFC 8032, section 5.1.4. Complete: it holds for every two points."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a = (y1 - x1) * (y2 - x2) % P
    b = (y1 + x1) * (y2 + x2) % P
    c = 2 * _D * t1 * t2 % P
    d = 2 * z1 * z2
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _double(point: Point) -> Point:
    x, y, z, _ = point
    a, b = x * x % P, y * y % P
    h = a + b
    e = h - (x + y) * (x + y)
    g = a - b
    f = 2 * z * z + g
    return e * f % P, g * h % P, f * g % P, e * h % P


def _negative(point: Point) -> Point:
    x, y, z, t = point
    return P - x, y, z, P - t


def _times_cofactor(point: Point) -> Point:
    return _double(_double(_double(point)))


def _is_neutral(point: Point) -> bool:
    x, y, z, _ = point
    return x % P == 0 and (y - z) % P == 0


def _encode(point: Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little")


def _decode(encoded: bytes) -> Point | None:
    """RFC 8032, section 5.1.3; None for what is not the one encoding of a point."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if len(encoded) != 32 or y >= P:
        return None
    u, v = y * y - 1, _D * y * y + 1
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        x = x * _ROOT_OF_MINUS_ONE % P
    if (v * x * x - u) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P
