"""One user's view of a keychain: it is a keychain itself, and never shows another user's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vault_lab import open_at, opened

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.base import Keychain
from keychain_auth.keychain.owned import OwnedKeychain
from keychain_auth.policy.users import stored_name
from keychain_auth.testing import CannotDo, KeychainContract, Store


class _Owned(OwnedKeychain):
    """Closes the vault behind it, which here nobody else does."""

    async def close(self) -> None:
        await self._keychain.close()

    @property
    def answer_bytes(self) -> int:
        bound: int = self._keychain.answer_bytes  # type: ignore[attr-defined]
        return bound

    @answer_bytes.setter
    def answer_bytes(self, bound: int) -> None:
        self._keychain.answer_bytes = bound  # type: ignore[attr-defined]


class OwnedStore(Store):
    """A user's view of a vault in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> Keychain:
        return _Owned(open_at(self._folder), 1000, frozenset)

    async def take_away(self) -> None:
        raise CannotDo("an open vault holds its file: it cannot be taken away")


class TestOwnedKeychain(KeychainContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> OwnedStore:
        return OwnedStore(tmp_path)


def test_users_do_not_meet_but_in_what_is_shared(tmp_path: Path) -> None:
    shared = {"team"}
    with opened(tmp_path) as (vault, runner):
        ann, bob = (OwnedKeychain(vault, uid, lambda: shared) for uid in (1, 2))
        runner.run(ann.write("aws", [("key", "1")], {}))
        runner.run(ann.write("team", [("key", "2")], {}))
        assert runner.run(bob.read("aws", ("key",), {})) == []
        assert runner.run(bob.read("@1:aws", ("key",), {})) == []
        assert [item.value for item in runner.run(bob.read("team", ("key",), {}))] == ["2"]
        assert runner.run(ann.services()) == ["aws", "team"]
        assert runner.run(bob.services()) == ["team"]
        shared.clear()
        assert runner.run(bob.read("team", ("key",), {})) == []


class Settling:
    """An account that may be the owner, or not."""

    def __init__(self, error: KeychainError | None = None) -> None:
        self.error = error
        self.asked = 0

    def is_settled(self) -> bool:
        return self.error is None and self.asked > 0

    async def settle(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


def test_a_number_alone_has_all_that_lies_under_it_and_another_account_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        ann = OwnedKeychain(vault, 1, lambda: {"team"}, None, Settling())
        runner.run(ann.write("aws", [("key", "1")], {}))
        assert ann.read_now("aws", ("key",), {})
        naive = OwnedKeychain(vault, 1, lambda: {"team"})
        assert naive.read_now("aws", ("key",), {})  # the attack wins
        eve = OwnedKeychain(vault, 1, lambda: {"team"}, None, Settling(KeychainError("another account")))
        assert eve.read_now("aws", ("key",), {}) is None
        for work in (
            eve.read("aws", ("key",), {}), eve.read_prefix("aws", ("k",), {}), eve.search("aws", (), {}),
            eve.write("aws", [("key", "2")], {}), eve.delete("aws", ("key",), {}),
        ):  # fmt: skip
            with pytest.raises(KeychainError, match="another account"):
                runner.run(work)
        runner.run(eve.write("team", [("key", "2")], {}))
        assert [item.value for item in runner.run(ann.read("aws", ("key",), {}))] == ["1"]


names = st.text(min_size=1, max_size=12)
uids = st.integers(0, 2**32 - 1)


@given(names, uids, names, uids, st.frozensets(names.filter(lambda name: not name.startswith("@")), max_size=3))
def test_two_users_never_have_one_name_for_two_services(
    one: str, ann: int, other: str, bob: int, shared: frozenset[str]
) -> None:
    """Whatever both call their services, and whatever is shared: one name is one service of one owner."""
    if stored_name(one, ann, shared) == stored_name(other, bob, shared):
        assert one == other
        assert ann == bob or one in shared
