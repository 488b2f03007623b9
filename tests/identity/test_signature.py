"""The end of a signed file, byte by byte: the shared vectors, and what must hold for all."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.crypto.ed25519 import SigningKey
from keychain_auth.identity import signature
from keychain_auth.identity.signature import TAIL_BYTES, Trailer, parse_public_key, parse_trailer
from keychain_auth.model import Signature
from keychain_auth.platform import signed_file
from keychain_auth.platform.base import FileTooLarge
from keychain_auth.platform.signed_file import Examined, examine

with open(os.path.join(os.path.dirname(__file__), "..", "vectors", "signatures.json"), encoding="utf-8") as file:
    CASES: list[dict[str, Any]] = json.load(file)["vectors"]

KEY = SigningKey.generate()


def examined(content: bytes, keys: Collection[bytes], size: int | None = None) -> Examined:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return examine(file.fileno(), len(content) if size is None else size, keys, 10_000)


@pytest.mark.parametrize("chunk", [5, 1 << 20])
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_vectors(case: dict[str, Any], chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_file, "_CHUNK", chunk)
    found = examined(bytes.fromhex(case["file"]), [parse_public_key(text) for text in case["trusted"]])
    if case["expect"] is None:
        assert found.signature is None
        return
    assert found.signature is not None
    assert case["expect"] == {
        "public_key": signature.key_text(found.signature.key),
        "over": "digest" if found.digested else "bytes",
        "build": found.signature.build,
    }


def test_the_vectors_hold_both_kinds() -> None:
    assert sum(case["expect"] is None for case in CASES) > 10
    assert sum(case["expect"] is not None for case in CASES) > 5


@given(st.binary(max_size=300), st.integers(0, signature.LARGEST_BUILD) | st.none())
def test_what_is_appended_is_found_again(content: bytes, build: int | None) -> None:
    said = b"" if build is None else signature.block(build, KEY.public)
    whole = content + said + signature.trailer(b"s" * 64)
    found = parse_trailer(whole[-TAIL_BYTES:], len(whole))
    key = None if build is None else KEY.public
    assert found == Trailer(b"s" * 64, len(content) + len(said), build, key)
    assert whole[: signature.unsigned_size(found)] == content
    assert parse_trailer(whole, len(whole)) == found  # the tail alone decides


@given(st.binary(max_size=200))
def test_any_end_is_a_trailer_or_none(tail: bytes) -> None:
    for end in (tail, tail + b"KCAS", tail + b"KCA-META" + bytes(64) + b"KCAS"):
        found = parse_trailer(end, len(end) + 1000)
        assert (found is not None) == (len(end) >= 68 and end.endswith(b"KCAS"))


def test_a_file_is_hashed_whole_whatever_it_claims() -> None:
    for content in (b"", b"KCAS", bytes(64) + b"KCAS", b"x" * 5000 + bytes(64) + b"KCAS"):
        assert examined(content, [KEY.public]).sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_that_grew_beyond_the_limit_is_given_up() -> None:
    with pytest.raises(FileTooLarge):
        examined(b"x" * 10_001, (), size=50)
    assert examined(b"x" * 10_000, (), size=50)


def test_what_no_key_could_sign_is_not_signed() -> None:
    unknown = b"\x02" + signature.block(7, KEY.public)[1:] + signature.trailer(bytes(64))
    assert examined(signature.trailer(bytes(64)), ()).is_signed
    for content in (b"x", unknown, bytes(68)):
        assert not examined(content, ()).is_signed


def test_each_key_is_a_piece_of_work_of_its_own() -> None:
    """The equations are Python: a stranger's must not hold up the others one after the other."""
    keys = [SigningKey.generate().public for _ in range(5)]
    rests: list[None] = []
    with tempfile.TemporaryFile() as file:
        file.write(b"program" + signature.trailer(bytes(32) + bytes(32)))
        file.flush()
        examine(file.fileno(), 7 + 68, keys, 1000, lambda: rests.append(None))
    assert len(rests) == 3 + len(keys)


def test_a_file_that_is_another_in_the_second_pass_has_no_signature() -> None:
    """Evil bytes while they are hashed, signed ones while the signature is checked: both under one name."""
    evil, good = b"evil program", b"good program"
    signed = good + signature.trailer(KEY.sign(good))
    with tempfile.TemporaryFile() as file:
        file.write(evil + signed[len(good) :])
        file.flush()
        passes: list[int] = []

        def pace() -> None:
            passes.append(os.pwrite(file.fileno(), good, 0))

        found = examine(file.fileno(), len(signed), [KEY.public], 1000, pace)
        assert len(passes) == 3  # content, trailer, and the content once more
        assert examine(file.fileno(), len(signed), [KEY.public], 1000).signature == Signature(KEY.public)
    assert found.sha256 == hashlib.sha256(evil + signed[len(good) :]).hexdigest()
    assert found.signature is None


def test_public_keys_raw_or_der_are_the_same_key() -> None:
    raw = base64.b64encode(KEY.public).decode()
    der = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + KEY.public).decode()
    assert parse_public_key(raw) == parse_public_key(der) == KEY.public


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "32 bytes"),
        (b"\x09" * 31, "32 bytes"),
        (b"\x09" * 33, "32 bytes"),
        (bytes.fromhex("302a300506032b656e032100") + b"\x09" * 32, "32 bytes"),  # X25519
        (bytes.fromhex("302a300506032b6570032100") + b"\x09" * 31, "32 bytes"),
        (bytes.fromhex("302a300506032b6570032100") + b"\x09" * 33, "32 bytes"),
        (b"\x01" + bytes(31), "proves nothing"),  # the neutral point
        (bytes(32), "proves nothing"),
        (b"\xff" * 32, "no point"),
        (b"\x02" + bytes(31), "no point"),
    ],
)
def test_what_is_no_public_key_says_why(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_public_key(base64.b64encode(data).decode())


@pytest.mark.parametrize(
    "text", ["not base64!", "AAAA=A", "A", " " + base64.b64encode(KEY.public).decode(), "Ä"],
    ids=["sign", "inner padding", "one letter", "blank in front", "not ASCII"],
)  # fmt: skip
def test_what_is_not_base64_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="not base64"):
        parse_public_key(text)
