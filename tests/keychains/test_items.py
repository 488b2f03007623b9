"""A keychain out of single items: the contract, a step that fails in the middle of a batch, and a system that hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping

import pytest

from keychain_auth.errors import CollectionLocked, KeychainError
from keychain_auth.keychain.items import Entry, ItemStore, StoreUnreachable
from keychain_auth.keychain.threaded import ThreadedKeychain
from keychain_auth.model import Item
from keychain_auth.testing import KeychainContract, Store
from keychain_auth.testing.lab import Lab, assert_silent, opened
from support.lines import PATIENCE


class Shelf:
    """Items in a dict. ``fails``: the calls that fail, counted from one; a call in ``late`` fails once it is done."""

    def __init__(self) -> None:
        self.there: dict[tuple[str, str], Entry] = {}
        self.trouble: KeychainError | None = None
        self.changes = 0
        self.fails: dict[int, KeychainError] = {}
        self.late: set[int] = set()
        self.released = threading.Event()
        self.released.set()

    def _look(self) -> None:
        assert self.released.wait(PATIENCE)
        if self.trouble is not None:
            raise self.trouble

    def _change(self, done: bool) -> None:
        if (self.changes in self.late) == done and self.changes in self.fails:
            raise self.fails[self.changes]

    def names(self, service: str | None) -> Iterable[Entry]:
        self._look()
        return [each._replace(value=None) for each in self.there.values() if service in (None, each.service)]

    def find(self, service: str, target: str) -> Entry | None:
        self._look()
        return self.there.get((service, target))

    def check(self, service: str, target: str, value: bytes, attributes: Mapping[str, str]) -> None:
        if len(value) > 1_000_000:
            raise KeychainError(f"{target!r} has more than 1000000 bytes", hint="use the vault")

    def put(self, service: str, target: str, value: bytes, attributes: Mapping[str, str]) -> None:
        self._look()
        self.changes += 1
        self._change(done=False)
        self.there[service, target] = Entry(service, target, dict(attributes), value)
        self._change(done=True)

    def remove(self, service: str, target: str) -> None:
        self._look()
        self.changes += 1
        self._change(done=False)
        self.there.pop((service, target), None)
        self._change(done=True)

    def probe(self) -> None:
        self._look()


class ShelfStore(Store):
    def __init__(self) -> None:
        self.shelf = Shelf()
        self.seconds = 5.0

    def open(self) -> ThreadedKeychain:
        return ThreadedKeychain(ItemStore(self.shelf), "shelf", "the shelf", seconds=self.seconds)

    async def lock(self) -> None:
        self.shelf.trouble = CollectionLocked("the shelf is locked", hint="open it")

    async def unlock(self) -> None:
        self.shelf.trouble = None

    async def take_away(self) -> None:
        self.shelf.trouble = StoreUnreachable("the shelf is gone")

    bring_back = unlock


class TestItems(KeychainContract):
    @pytest.fixture
    def store(self) -> ShelfStore:
        return ShelfStore()


@pytest.fixture
def store() -> ShelfStore:
    return ShelfStore()


@pytest.fixture
def lab(store: ShelfStore) -> Iterator[Lab]:
    with opened(store) as lab:
        yield lab
        store.shelf.released.set()


# --- a step that fails ------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True], ids=["before it is done", "after it is done"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_write_that_fails_in_the_middle_leaves_what_was_there(
    lab: Lab, store: ShelfStore, step: int, late: bool
) -> None:
    lab.write({"a": "old", "c": "old"}, team="x")
    before = dict(store.shelf.there)
    store.shelf.changes, store.shelf.fails = 0, {step: KeychainError("no room")}
    store.shelf.late = {step} if late else set()
    with pytest.raises(KeychainError, match=r"^no room$"):
        lab.write({"a": "new", "b": "new", "c": "new"})
    assert store.shelf.there == before


@pytest.mark.parametrize("late", [False, True], ids=["before it is done", "after it is done"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_deletion_that_fails_in_the_middle_leaves_what_was_there(
    lab: Lab, store: ShelfStore, step: int, late: bool
) -> None:
    lab.write({"a": "1"}, team="x")
    lab.write({"b": "2"}, team="x", place="y")
    before = dict(store.shelf.there)
    store.shelf.changes, store.shelf.fails = 0, {step: KeychainError("no")}
    store.shelf.late = {step} if late else set()
    with pytest.raises(KeychainError, match=r"^no$"):
        lab.delete("a", "none", "b", team="x")
    assert store.shelf.there == before


def test_what_cannot_be_undone_is_named_and_the_rest_is_undone(lab: Lab, store: ShelfStore) -> None:
    lab.write({"a": "old", "b": "old", "c": "old"})
    store.shelf.changes = 0
    store.shelf.fails = {3: CollectionLocked("it was locked", hint="open it"), 4: KeychainError("still no")}
    with pytest.raises(CollectionLocked) as caught:
        lab.write({"a": "a value that no error may show", "b": "new", "c": "new"})
    assert str(caught.value) == "it was locked; what was changed before could not be undone (still no): look at 'b'"
    assert caught.value.hint == "open it"
    assert_silent(caught.value)
    assert lab.everything() == {"a": "old", "b": "new", "c": "old"}


def test_what_cannot_be_stored_is_refused_before_anything_is(lab: Lab, store: ShelfStore) -> None:
    with pytest.raises(KeychainError, match="'b' has more"):
        lab.write({"a": "1", "b": "x" * 1_000_001})
    assert (store.shelf.there, store.shelf.changes) == ({}, 0)


def test_health_tells_what_the_last_operation_found(lab: Lab, store: ShelfStore) -> None:
    def health() -> dict[str, object]:
        lab.run(lab.keychain.probe())
        return lab.keychain.health()

    assert lab.keychain.health() == {"backend": "shelf", "state": "not asked yet"}
    assert health() == {"backend": "shelf", "state": "open"}
    lab.run(store.lock())
    assert health() == {"backend": "shelf", "state": "locked", "problem": "the shelf is locked"}
    lab.run(store.take_away())
    assert health() == {"backend": "shelf", "state": "not reachable", "problem": "the shelf is gone"}
    lab.run(store.bring_back())
    with pytest.raises(KeychainError):
        lab.write({"of mine\0": "x"})
    assert health() == {"backend": "shelf", "state": "open"}


# --- a system that hangs ----------------------------------------------------------------------------


def test_a_read_that_hangs_is_given_up_and_the_next_is_told_why(store: ShelfStore) -> None:
    store.seconds = 1.0  # on a busy machine, a thread that waits begins later than at once

    async def ask() -> None:
        keychain = store.open()
        await keychain.write("svc", [("a", "1")], {})
        store.shelf.released.clear()
        with pytest.raises(KeychainError, match="the shelf does not answer"):
            await keychain.read("svc", ["a"], {})
        with pytest.raises(KeychainError, match="the shelf is busy"):
            await keychain.read("svc", ["a"], {})
        with pytest.raises(KeychainError, match="the shelf is busy"):
            await keychain.write("svc", [("a", "2")], {})
        store.shelf.released.set()
        await keychain.write("svc", [("b", "3")], {})
        assert await keychain.read_prefix("svc", [""], {}) == [Item("a", "1"), Item("b", "3")]
        await keychain.close()

    asyncio.run(ask())


def test_a_change_that_began_is_awaited_to_its_end(store: ShelfStore) -> None:
    store.seconds = 0.5

    async def ask() -> None:
        keychain = store.open()
        assert await keychain.read("svc", ["a"], {}) == []  # the thread is there, and waits
        store.shelf.released.clear()
        change = asyncio.ensure_future(keychain.write("svc", [("a", "1")], {}))
        done, _ = await asyncio.wait({change}, timeout=1.0)  # twice what a read would be given
        assert not done
        store.shelf.released.set()
        await change
        assert store.shelf.there["svc", "a"].value == b"1"
        await keychain.close()

    asyncio.run(ask())
