"""For who writes a keychain: the tests that every one of them passes. Needs pytest, which the daemon does not."""

from __future__ import annotations

import pytest

for _module in ("answers_contract", "keychain_contract", "lab"):  # so that a failing assertion says what was there
    pytest.register_assert_rewrite(f"keychain_auth.testing.{_module}")

from keychain_auth.testing.keychain_contract import KeychainContract  # noqa: E402 - rewritten first
from keychain_auth.testing.store import CannotDo, Store  # noqa: E402

__all__ = ["CannotDo", "KeychainContract", "Store"]
