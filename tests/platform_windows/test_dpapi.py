"""The slot of a Windows account, with the system's own DPAPI; and what other systems say."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from keychain_auth.crypto.envelope import Params, Protector
from keychain_auth.errors import VaultError, VaultKeyMissing
from keychain_auth.files import make_private_dir
from keychain_auth.keychain.vault import Keys, Vault, open_vault, peek_slots
from keychain_auth.model import Item
from keychain_auth.native import dpapi
from keychain_auth.protectors.dpapi import Dpapi
from keychain_auth.protectors.keyfile import KeyFile

T = TypeVar("T")

on_windows = pytest.mark.skipif(sys.platform != "win32", reason="DPAPI is a part of Windows")


def altered(params: Params, name: str) -> Params:
    content = bytearray(base64.b64decode(params[name]))
    content[-1] ^= 1
    return {**params, name: base64.b64encode(content).decode()}


@on_windows
def test_windows_gives_back_what_it_protected() -> None:
    params, key = Dpapi().create()
    assert len(key) == 32
    assert Dpapi().unwrap_key(params) == key
    assert bytes(key) not in b"".join(base64.b64decode(part) for part in params.values())
    other, another = Dpapi().create()
    assert another != key
    for name in ("blob", "entropy"):
        with pytest.raises(VaultKeyMissing, match="another account"):
            Dpapi().unwrap_key(altered(params, name))
        with pytest.raises(VaultKeyMissing, match="another account"):
            Dpapi().unwrap_key({**params, name: other[name]})


@on_windows
def test_a_key_that_is_none_is_not_taken() -> None:
    params, _ = Dpapi().create()
    entropy = b"keychain-auth vault key 1 " + base64.b64decode(params["entropy"])
    blob = base64.b64encode(dpapi.protect(b"short", entropy, "test")).decode()
    with pytest.raises(VaultKeyMissing, match="is no key"):
        Dpapi().unwrap_key({**params, "blob": blob})


@on_windows
def test_dpapi_takes_whatever_it_is_given() -> None:
    for secret in (b"", b"\0", b"x" * 70_000):
        assert dpapi.unprotect(dpapi.protect(secret, b"", "test"), b"") == secret
    kept = bytearray(b"a key that the caller still needs")
    dpapi.protect(kept, b"e", "test")
    assert kept == b"a key that the caller still needs"
    with pytest.raises(OSError, match="CryptUnprotectData failed with error 0xd"):
        dpapi.unprotect(b"no blob", b"")


@pytest.mark.parametrize("missing", ["blob", "entropy"])
def test_a_slot_that_lacks_something(missing: str) -> None:
    params = {"blob": "AAAA", "entropy": "AAAA"}
    for wrong in ({**params, missing: "!"}, {name: part for name, part in params.items() if name != missing}):
        with pytest.raises(ValueError, match="lacks"):
            Dpapi().unwrap_key(wrong)


@pytest.mark.skipif(sys.platform == "win32", reason="there is DPAPI here")
def test_another_system_says_what_it_is_not() -> None:
    with pytest.raises(VaultKeyMissing, match="DPAPI is a part of Windows"):
        Dpapi().create()
    with pytest.raises(VaultKeyMissing, match="DPAPI is a part of Windows"):
        Dpapi().unwrap_key({"blob": "AAAA", "entropy": "AAAA"})


@on_windows
def test_a_vault_that_only_the_account_opens(tmp_path: Path) -> None:
    folder, key_file = str(tmp_path / "vault"), KeyFile(str(tmp_path / "vault" / "vault.key"))
    make_private_dir(folder)

    async def with_vault(protectors: list[Protector], work: Callable[[Vault], Coroutine[Any, Any, T]]) -> T:
        vault = open_vault(folder, protectors)
        try:
            return await work(vault)
        finally:
            await vault.close()

    async def lock_to_account(vault: Vault) -> None:
        await vault.write("svc", [("a", "hunter2")], {})
        await Keys(vault).add(Dpapi())
        await Keys(vault).remove(1)

    asyncio.run(with_vault([key_file], lock_to_account))
    assert [slot.kind for slot in peek_slots(folder)] == ["dpapi"]
    found = asyncio.run(with_vault([Dpapi()], lambda vault: vault.read("svc", ["a"], {})))
    assert found == [Item("a", "hunter2")]
    with pytest.raises(VaultError):
        open_vault(folder, [key_file])
