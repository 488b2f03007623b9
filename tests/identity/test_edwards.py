"""The equation of Ed25519: RFC 8032's own vectors, and the verdict of OpenSSL on whatever else is thought of."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.crypto.ed25519 import Verification, verify_short
from keychain_auth.identity import edwards
from keychain_auth.identity.edwards import ORDER, P, decode_key

with open(os.path.join(os.path.dirname(__file__), "..", "vectors", "ed25519.json"), encoding="utf-8") as file:
    CASES: list[dict[str, Any]] = json.load(file)["vectors"]

# All points of small order: for y = 0, 1, -1 and the two that are left, both signs (where x is not 0).
ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
SMALL = [
    (y | sign << 255).to_bytes(32, "little")
    for y, signs in ((0, (0, 1)), (1, (0,)), (P - 1, (0,)), (ORDER_8, (0, 1)), (P - ORDER_8, (0, 1)))
    for sign in signs
]


def ours(key: bytes, signature: bytes, message: bytes, piece: int = 7) -> bool:
    check = Verification(key, signature)
    for start in range(0, len(message), piece):
        check.update(message[start : start + piece])
    return check.fits()


def openssl(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def own_signature(secret: int, key: bytes, r: bytes, nonce: int, message: bytes) -> bytes:
    """A signature made by hand: ``r`` and ``key`` may be other points than those of ``nonce`` and ``secret``."""
    k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little")
    return r + ((nonce + k * secret) % ORDER).to_bytes(32, "little")


def times_base(number: int, torsion: bytes | None = None) -> bytes:
    """The encoding of [number]B, plus a point of small order."""
    point = edwards._combine(number, 0, (0, 1, 1, 0))
    if torsion is not None:
        small = edwards._decode(torsion)
        assert small is not None
        point = edwards._add(point, small)
    return edwards._encode(point)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_vectors_of_the_rfc(case: dict[str, Any]) -> None:
    key, signature, message = (bytes.fromhex(case[name]) for name in ("public_key", "signature", "message"))
    assert ours(key, signature, message)
    assert not ours(key, signature, message + b"x")


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(1, 64))
def test_a_signature_holds_and_one_bit_more_does_not(seed: bytes, message: bytes, piece: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert ours(key, signature, message, piece)
    assert times_base(int.from_bytes(_clamped(seed), "little") % ORDER) == key


def _clamped(seed: bytes) -> bytes:
    digest = bytearray(hashlib.sha512(seed).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    return bytes(digest)


@given(st.integers(0, 64 * 8 - 1), st.integers(0, 32 * 8 - 1), st.sampled_from(("signature", "key", "message")))
def test_openssl_agrees_on_every_bit_that_is_turned(bit: int, key_bit: int, where: str) -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    parts = {"key": private.public_key().public_bytes_raw(), "message": b"m" * 40, "signature": private.sign(b"m" * 40)}
    turned = bytearray(parts[where])
    at = key_bit if where != "signature" else bit
    turned[at // 8] ^= 1 << at % 8
    parts[where] = bytes(turned)
    assert not openssl(**parts)
    assert not ours(**parts)


def test_a_second_s_for_the_same_message_is_refused() -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
    key, signature = private.public_key().public_bytes_raw(), private.sign(b"m")
    s = int.from_bytes(signature[32:], "little")
    for more in (ORDER, 2 * ORDER, 7 * ORDER):
        other = signature[:32] + (s + more).to_bytes(32, "little")
        # Without the rule it would hold: [S + L]B is [S]B.
        assert edwards._encode(edwards._combine(s + more, 0, (0, 1, 1, 0))) == times_base(s)
        assert ours(key, other, b"m") is openssl(key, other, b"m") is False


def test_s_is_below_the_order_not_at_it() -> None:
    """k is given here, so that S = 0 can be made to fit: then S = L would fit as well."""
    key = edwards._decode(times_base(7))
    assert key is not None
    r = edwards._encode(edwards._combine(0, 5, edwards._negative(key)))
    assert edwards.holds(key, r + bytes(32), 5)
    assert not edwards.holds(key, r + ORDER.to_bytes(32, "little"), 5)


def test_small_points_beside_r_and_key_are_judged_as_openssl_does() -> None:
    """Verification with the cofactor would accept all of these; OpenSSL, without it, those where k cancels it."""
    accepted = 0
    for number, torsion in enumerate(SMALL * 4):
        message = b"message %d" % number
        secret, nonce = 1000 + number, 2000 + number
        key = times_base(secret, torsion)
        signature = own_signature(secret, key, times_base(nonce), nonce, message)
        assert ours(key, signature, message) is openssl(key, signature, message)
        accepted += ours(key, signature, message)
        mixed = times_base(nonce, torsion)
        signature = own_signature(secret, times_base(secret), mixed, nonce, message)
        fits = ours(times_base(secret), signature, message)
        assert fits is openssl(times_base(secret), signature, message) is (torsion == SMALL[2])
    assert 0 < accepted < len(SMALL) * 4


def test_a_key_of_small_order_signs_anything_for_openssl_and_nothing_for_us() -> None:
    """The neutral point as public key: S = 0 and R = the neutral point are a signature of every message."""
    neutral = SMALL[2]
    forged = neutral + bytes(32)
    assert openssl(neutral, forged, b"whatever")
    assert verify_short(neutral, forged, b"whatever")
    assert not ours(neutral, forged, b"whatever")
    assert len(set(SMALL)) == 8
    for key in SMALL:
        point = edwards._decode(key)
        assert point is not None
        assert edwards._is_neutral(edwards._times_cofactor(point))
        assert decode_key(key) is None


@pytest.mark.parametrize(
    "number", [P, P + 1, 2**255 - 1, 1 | 1 << 255, P - 1 | 1 << 255, 2, 7], ids=lambda number: hex(number)[:10]
)
def test_other_spellings_and_what_is_no_point_are_no_keys(number: int) -> None:
    assert edwards._decode(number.to_bytes(32, "little")) is None
    assert decode_key(number.to_bytes(32, "little")) is None


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_has_32_bytes(length: int) -> None:
    assert decode_key(b"\x09" * length) is None
    assert not Verification(b"\x09" * length, bytes(64)).fits()


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_a_signature_has_64_bytes(length: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"\x03" * 32).public_key().public_bytes_raw()
    assert not Verification(key, bytes(length)).fits()
