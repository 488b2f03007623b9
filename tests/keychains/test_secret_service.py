"""The Secret Service as a keychain passes the contract of all keychains, with a real gnome-keyring."""

from __future__ import annotations

import pytest

from keychain_auth.keychain.secret_service.keychain import SecretServiceKeychain
from keychain_auth.testing import KeychainContract, Store
from support.secret_service import Desktop


class SecretServiceStore(Store):
    def __init__(self, desktop: Desktop) -> None:
        self._desktop = desktop

    def open(self) -> SecretServiceKeychain:
        return SecretServiceKeychain(address=self._desktop.address, seconds=10)

    async def lock(self) -> None:
        self._desktop.lock()

    async def unlock(self) -> None:
        self._desktop.unlock()

    async def take_away(self) -> None:
        self._desktop.stop_keyring()

    async def bring_back(self) -> None:
        self._desktop.start_keyring()


class TestSecretService(KeychainContract):
    operations = 75  # gnome-keyring writes its whole file for each change

    @pytest.fixture
    def store(self, desktop: Desktop) -> SecretServiceStore:
        return SecretServiceStore(desktop)
