"""The contract suite notices what storages get wrong: each mistake below fails the test that is there for it."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.budget import ANSWER_BYTES, Budget
from keychain_auth.keychain.names import require_names
from keychain_auth.model import Item
from keychain_auth.testing import KeychainContract, Store
from keychain_auth.testing.lab import DIFFICULT, Lab

Key = tuple[str, ...]


class InMemory:
    """A keychain as simple as can be, and right."""

    def __init__(self) -> None:
        self.answer_bytes = ANSWER_BYTES
        self.items: dict[Key, Item] = {}
        self.closed = False

    def key(self, service: str, target: str) -> Key:
        return (service, target)

    def begins(self, target: str, prefix: str) -> bool:
        return target.startswith(prefix)

    def check(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        require_names(service, targets, attributes)

    def order(self, items: list[Item]) -> list[Item]:
        return sorted(items, key=lambda item: item.target)

    async def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        self._open()
        found = [self.items.get(self.key(service, target)) for target in targets]
        return self.bounded([item for item in found if item is not None and self._fits(item, attributes)])

    def read_now(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        return None

    async def read_prefix(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        return self.bounded(self._under(service, prefixes, attributes))

    def _under(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        self._open()
        found = [
            item
            for key, item in self.items.items()
            if key == self.key(service, item.target) and any(self.begins(item.target, prefix) for prefix in prefixes)
        ]
        return self.order([item for item in found if self._fits(item, attributes)])

    def bounded(self, items: list[Item]) -> list[Item]:
        budget = Budget(self.answer_bytes)
        for item in items if len(items) > 1 else ():
            budget.take(len(item.value or ""), item.target, item.attributes)
        return items

    async def search(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        found = self._under(service, prefixes or ("",), attributes)
        return self.bounded([Item(item.target, None, item.attributes) for item in found])

    async def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> None:
        self._open()
        self.check(service, [target for target, _ in entries], attributes)
        if any("\ud800" in value for _, value in entries):
            raise KeychainError("no Unicode")
        for target, value in entries:
            self.items[self.key(service, target)] = Item(target, value, dict(attributes) or None)

    async def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        for item in await self.read(service, targets, attributes):
            del self.items[self.key(service, item.target)]

    async def services(self) -> list[str]:
        self._open()
        return sorted({key[0] for key in self.items})

    async def probe(self) -> None:
        pass

    def health(self) -> dict[str, object]:
        return {"backend": "memory"}

    async def close(self) -> None:
        self.closed = True

    def _open(self) -> None:
        if self.closed:
            raise KeychainError("closed")

    def _fits(self, item: Item, attributes: Mapping[str, str]) -> bool:
        return attributes.items() <= (item.attributes or {}).items()


class MemoryStore(Store):
    def __init__(self, make: type[InMemory] = InMemory) -> None:
        self.make = make
        self.items: dict[Key, Item] = {}

    def open(self) -> InMemory:
        keychain = self.make()
        keychain.items = self.items
        return keychain


class TestInMemory(KeychainContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class Joined(InMemory):
    def key(self, service: str, target: str) -> Key:
        return (f"{service}:{target}",)


class CaseFolded(InMemory):
    def key(self, service: str, target: str) -> Key:
        return (service, target.casefold())


class Normalised(InMemory):
    def key(self, service: str, target: str) -> Key:
        return (service, unicodedata.normalize("NFC", target))


class Stripped(InMemory):
    def key(self, service: str, target: str) -> Key:
        return (service, target.rstrip())


class CutAtNul(InMemory):
    def check(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        pass


class Like(InMemory):
    """LIKE of SQL: an underscore is any character."""

    def begins(self, target: str, prefix: str) -> bool:
        return len(target) >= len(prefix) and all(b in (a, "_") for a, b in zip(target, prefix, strict=False))


class WrappedRange(InMemory):
    """From the prefix up to the prefix whose last character is one more: there is none after the last."""

    def begins(self, target: str, prefix: str) -> bool:
        return not prefix or prefix <= target < prefix[:-1] + chr((ord(prefix[-1]) + 1) % 0x110000)


class SortedAsUtf16(InMemory):
    def order(self, items: list[Item]) -> list[Item]:
        return sorted(items, key=lambda item: item.target.encode("utf-16-be"))


class EmptyIsMissing(InMemory):
    async def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        return [item for item in await super().read(service, targets, attributes) if item.value]


class NotTogether(InMemory):
    async def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> None:
        for entry in entries:
            await super().write(service, [entry], attributes)
            await asyncio.sleep(0)


class AnyAttribute(InMemory):
    def _fits(self, item: Item, attributes: Mapping[str, str]) -> bool:
        return not attributes or bool(attributes.items() & (item.attributes or {}).items())


class Boundless(InMemory):
    def bounded(self, items: list[Item]) -> list[Item]:
        return items


class MergedAttributes(InMemory):
    async def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> None:
        for target, value in entries:
            old = self.items.get(self.key(service, target))
            await super().write(service, [(target, value)], {**((old and old.attributes) or {}), **attributes})


class ClosedIsEmpty(InMemory):
    def _open(self) -> None:
        if self.closed:
            self.items = {}


C = KeychainContract


@pytest.mark.parametrize(
    ("mistake", "test", "arguments"),
    [
        (Joined, C.test_service_and_target_are_never_joined, ()),
        (CaseFolded, C.test_names_that_look_alike_are_not_confused, ()),
        (Normalised, C.test_names_that_look_alike_are_not_confused, ()),
        (Stripped, C.test_names_that_look_alike_are_not_confused, ()),
        (CutAtNul, C.test_names_that_storages_cut_are_refused, ("a\0",)),
        (Like, C.test_a_prefix_is_no_pattern, ("_",)),
        (WrappedRange, C.test_prefixes_that_end_in_the_last_character, ()),
        (SortedAsUtf16, C.test_names_that_look_alike_are_not_confused, ()),
        (EmptyIsMissing, C.test_a_value_comes_back_as_it_was, ("",)),
        (NotTogether, C.test_writers_at_the_same_time_leave_whole_batches, ()),
        (AnyAttribute, C.test_every_attribute_asked_for_must_be_equal, ()),
        (Boundless, C.test_an_answer_that_grows_too_large_is_none, ()),
        (MergedAttributes, C.test_any_order_of_operations_gives_what_a_dict_gives, ()),
        (ClosedIsEmpty, C.test_a_closed_keychain_fails_and_looks_not_empty, ()),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_mistake_fails_its_test(mistake: type[InMemory], test: Any, arguments: tuple[str, ...]) -> None:
    store = MemoryStore(mistake)
    with asyncio.Runner() as runner, pytest.raises((AssertionError, pytest.fail.Exception, KeyError)):
        test(KeychainContract(), Lab(store, store.open(), runner.run), *arguments)


def test_difficult_names_are_different_names() -> None:
    assert len(set(DIFFICULT)) == len(DIFFICULT)
