"""The small parts: sealed blobs, envelopes, the key file, the sorted index."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.crypto.aead import OVERHEAD, Aead, NotAuthentic
from keychain_auth.crypto.envelope import Place, discard, unwrap_into, wrap
from keychain_auth.crypto.kdf import fingerprint, joined, pseudonym, subkey, wipe
from keychain_auth.errors import UnsafeFile, VaultError, VaultKeyMissing
from keychain_auth.keychain.vault.index import Record, Shelf
from keychain_auth.protectors.base import Protector
from keychain_auth.protectors.keyfile import KeyFile

KEY = bytes(range(32))


def whole(cipher: Aead, blob: bytes, context: bytes) -> bytes:
    return cipher.open(blob, context)


def by_opener(cipher: Aead, blob: bytes, context: bytes) -> bytes:
    return cipher.opener(context[:1])(blob, context[1:])


def in_place(cipher: Aead, blob: bytes, context: bytes) -> bytes:
    into = bytearray(b"x" * len(b"plain"))
    try:
        cipher.open_into(blob, context, memoryview(into))
    except NotAuthentic:
        assert into in (b"x" * len(into), bytes(len(into))), "nothing of what is not authentic is left"
        raise
    return bytes(into)


@pytest.mark.parametrize("opened", [whole, by_opener, in_place])
def test_a_sealed_blob_opens_only_whole_and_in_its_place(opened: Callable[[Aead, bytes, bytes], bytes]) -> None:
    cipher = Aead(KEY)
    blob = cipher.seal(b"plain", b"here")
    assert len(blob) == len(b"plain") + OVERHEAD
    assert opened(cipher, blob, b"here") == b"plain"
    for bit in range(len(blob) * 8):
        altered = bytearray(blob)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NotAuthentic):
            opened(cipher, bytes(altered), b"here")
    for length in range(len(blob)):
        with pytest.raises(NotAuthentic):
            opened(cipher, blob[:length], b"here")
    for other, context in ((cipher, b"there"), (Aead(bytes(32)), b"here")):
        with pytest.raises(NotAuthentic):
            opened(other, blob, context)


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Aead(KEY[:16])


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_joining_confuses_no_two_lists(one: list[bytes], other: list[bytes]) -> None:
    assert (joined(one) == joined(other)) == (one == other)


def test_keys_for_two_purposes_have_nothing_in_common() -> None:
    keys = {subkey(KEY, salt, purpose) for salt in (b"a", b"b") for purpose in ("index", "value")}
    assert len(keys) == 4
    assert pseudonym(KEY, b"a", b"bc") != pseudonym(KEY, b"ab", b"c")
    assert fingerprint(KEY, b"x") != fingerprint(bytes(32), b"x")


def test_hkdf_is_the_one_of_the_rfc() -> None:
    """RFC 5869 with info ``keychain-auth p``, computed here with HMAC alone: other programs must be able to follow."""
    import hashlib
    import hmac

    pseudorandom = hmac.digest(b"salt", KEY, hashlib.sha256)
    assert subkey(KEY, b"salt", "p") == hmac.digest(pseudorandom, b"keychain-auth p\x01", hashlib.sha256)


def test_wiping_happens_in_place() -> None:
    buffer = bytearray(KEY)
    wipe(memoryview(buffer)[:16])
    assert buffer == bytes(16) + KEY[16:]


def test_a_key_that_served_is_overwritten_where_it_can_be() -> None:
    key = bytearray(KEY)
    discard(key)
    assert key == bytes(32)
    discard(KEY)  # of a value that cannot change nothing is wanted


def test_an_envelope_belongs_to_its_slot() -> None:
    place = Place(b"vault", 1, "keyfile", b"{}")
    wrapped = wrap(KEY, b"k" * 32, place)
    key = bytearray(b"x" * 32)
    unwrap_into(KEY, wrapped, place, memoryview(key))
    assert key == b"k" * 32
    others = [
        place._replace(vault_id=b"other"),
        place._replace(slot=2),
        place._replace(kind="passphrase"),
        place._replace(params=b'{"rounds":"1"}'),
    ]
    for other in others:
        with pytest.raises(NotAuthentic):
            unwrap_into(KEY, wrapped, other, memoryview(key))
        assert key == bytes(32)
    with pytest.raises(NotAuthentic):
        unwrap_into(bytes(32), wrapped, place, memoryview(key))


# --- the key file -----------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, str], bytes]:
    """A key file, its slot's parameters, its key."""
    protector: Protector = KeyFile(str(tmp_path / "vault.key"))
    assert not protector.present()
    params, key = protector.create()
    assert not protector.present()  # nothing outside the process before commit
    protector.commit()
    assert protector.present()
    return tmp_path / "vault.key", dict(params), key


def test_the_key_file_gives_its_key_back(made: tuple[Path, dict[str, str], bytes]) -> None:
    path, params, key = made
    assert KeyFile(str(path)).unwrap_key(params) == key
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().splitlines()[0] == "keychain-auth key file 1"
    assert key.hex() not in str(params)


def test_no_altered_bit_of_the_key_file_is_overlooked(made: tuple[Path, dict[str, str], bytes]) -> None:
    path, params, _ = made
    whole = path.read_bytes()
    for bit in range(len(whole) * 8):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        with pytest.raises(VaultKeyMissing, match="is damaged"):
            KeyFile(str(path)).unwrap_key(params)
    for content in (b"", whole[:-1], whole + b"\n", whole[:30], os.urandom(100)):
        path.write_bytes(content)
        with pytest.raises(VaultKeyMissing, match="is damaged") as caught:
            KeyFile(str(path)).unwrap_key(params)
        assert whole.decode().split()[-1] not in str(caught.value)


def test_a_key_file_is_never_overwritten(made: tuple[Path, dict[str, str], bytes]) -> None:
    path, _, _ = made
    before = path.read_bytes()
    with pytest.raises(VaultError, match="already"):
        KeyFile(str(path)).create()
    late = KeyFile(str(path.parent / "late"))
    late.create()
    path.rename(path.parent / "late")
    with pytest.raises(VaultError, match="already"):
        late.commit()
    assert (path.parent / "late").read_bytes() == before


def test_a_key_file_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    protector = KeyFile(str(tmp_path / "nowhere" / "vault.key"))
    protector.create()
    with pytest.raises(VaultError, match="cannot write the key file"):
        protector.commit()
    with pytest.raises(VaultKeyMissing, match="is missing"):
        protector.unwrap_key({})
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnsafeFile, match="is a folder"):
        KeyFile(str(tmp_path / "folder")).unwrap_key({})
    with pytest.raises(RuntimeError, match=r"after create\(\)"):
        KeyFile(str(tmp_path / "new")).commit()


# --- the index --------------------------------------------------------------------------------


@given(
    st.lists(st.text(alphabet="ab\ud7ff\ue000\U0010ffff", max_size=4), unique=True),
    st.lists(st.text(alphabet="ab\ud7ff\ue000\U0010ffff", max_size=3), max_size=4),
)
def test_a_prefix_finds_what_startswith_finds(names: list[str], prefixes: list[str]) -> None:
    """The last characters of the ranges before and after the surrogates, and of all, have odd successors."""
    shelf = Shelf()
    for few in itertools.batched(names, 3) if hasattr(itertools, "batched") else [names[:5], names[5:]]:
        shelf.put([Record(name, b"", b"", None) for name in few])
    found = [record.target for record in shelf.beginning_with(prefixes)[:]]
    assert found == sorted(name for name in names if name.startswith(tuple(prefixes)))
