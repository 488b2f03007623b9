"""The vault behind its door passes the contract of all keychains, locked and open again."""

from __future__ import annotations

from pathlib import Path

import pytest

from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.daemon.settings import LockSettings
from keychain_auth.protectors.keyfile import KeyFile
from keychain_auth.testing import CannotDo, KeychainContract, Store


class SafeStore(Store):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._safe: Safe | None = None

    def open(self) -> Safe:
        protectors = [KeyFile(str(self._folder / "vault.key"))]
        self._safe = Safe(
            str(self._folder), lambda: protectors, memoryview(bytearray(32)), LockSettings(), history=lambda vault: 3
        )
        self._safe.open_at_start(protectors)
        return self._safe

    async def lock(self) -> None:
        assert self._safe is not None
        assert await self._safe.lock("for a test")

    async def unlock(self) -> None:
        assert self._safe is not None
        await self._safe.unlock(())

    async def take_away(self) -> None:
        raise CannotDo("an open vault holds its file: it cannot be taken away")


class TestSafe(KeychainContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SafeStore:
        return SafeStore(tmp_path)

    test_an_answer_that_grows_too_large_is_none = None  # the bound is that of the vault behind the door
