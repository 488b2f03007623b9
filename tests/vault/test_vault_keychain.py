"""The vault passes the contract of all keychains."""

from __future__ import annotations

from pathlib import Path

import pytest
from vault_lab import at_once, open_at, opened

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.vault import Vault
from keychain_auth.keychain.vault.format import OWN_SERVICE
from keychain_auth.testing import CannotDo, KeychainContract, Store


class VaultStore(Store):
    """A vault in a folder, with its key file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> Vault:
        return open_at(self._folder)

    async def take_away(self) -> None:
        raise CannotDo("an open vault holds its file: it cannot be taken away")


class TestVaultKeychain(KeychainContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> VaultStore:
        return VaultStore(tmp_path)


def test_rows_of_the_vaults_own_are_no_callers(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, _):
        for ask in (vault.read, vault.read_prefix, vault.search):
            with pytest.raises(KeychainError):
                at_once(ask(OWN_SERVICE, ("",), {}))
