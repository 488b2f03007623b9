"""The digest of a file says under which keys it was tried, so that the answer is not kept for longer than it is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keychain_auth.crypto.ed25519 import SigningKey
from keychain_auth.identity import signature
from keychain_auth.model import Signature
from keychain_auth.platform.base import Digest
from keychain_auth.platform.linux import filehash

KEY, OTHER = SigningKey.generate(), SigningKey.generate()


def digest(path: Path, content: bytes, *keys: bytes) -> Digest:
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    try:
        return filehash.digest(fd, 10_000, nosuid=False, keys=keys)
    finally:
        os.close(fd)


@pytest.mark.parametrize("build", [None, 7])
def test_a_signed_file_answers_for_the_keys_that_were_tried(tmp_path: Path, build: int | None) -> None:
    said = b"" if build is None else signature.block(build, KEY.public)
    content = b"program" + said + signature.trailer(KEY.sign(b"program" + said))
    found = digest(tmp_path / "program", content, OTHER.public, KEY.public)
    assert found.signature == Signature(KEY.public, build)
    assert found.answers({KEY.public, OTHER.public})
    assert found.answers({KEY.public})
    assert not found.answers({KEY.public, b"\x09" * 32})
    unknown = digest(tmp_path / "program", content, OTHER.public)
    assert unknown.signature is None
    assert unknown.answers({OTHER.public})
    assert not unknown.answers({KEY.public})


def test_a_file_without_a_signature_answers_for_every_key(tmp_path: Path) -> None:
    unknown_form = b"\x02" + signature.block(7, KEY.public)[1:]
    for content in (b"program", b"", unknown_form + signature.trailer(KEY.sign(unknown_form))):
        found = digest(tmp_path / "program", content)
        assert found.signature is None
        assert found.answers({KEY.public, OTHER.public})
