"""Migration between two keychains in memory: every way it can be interrupted, refused, or raced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from keychain_auth.errors import KeychainError, ValueNotText
from keychain_auth.keychain.migration import Migration, Step
from keychain_auth.model import Item
from keychains.test_contract_suite import InMemory


class Both:
    def __init__(self, count: int = 120, value: str = "value") -> None:
        self.source, self.destination = InMemory(), InMemory()
        self.recorded: list[str] = []
        for number in range(count):
            attributes = {"number": str(number % 3)} if number % 3 else {}
            asyncio.run(self.source.write("svc", [(f"t{number:03}", f"{value} {number}")], attributes))
        asyncio.run(self.source.write("other", [("stays", "v")], {}))

    def migration(self) -> Migration:
        return Migration("svc", self.source, self.destination, "/bin/program", self.recorded.extend)

    def copy(self, *, replace: bool = False, dry_run: bool = False, steps: int = 1000) -> list[Step]:
        return asyncio.run(
            self._all(lambda after: self.migration().copy(after, replace=replace, dry_run=dry_run), steps)
        )

    def remove(self) -> list[Step]:
        return asyncio.run(self._all(self.migration().remove, 1000))

    async def _all(self, step: Callable[[str], Awaitable[Step]], steps: int) -> list[Step]:
        found: list[Step] = []
        while len(found) < steps:
            found.append(await step(found[-1].next if found else ""))
            if not found[-1].next:
                break
        return found

    def values(self, keychain: InMemory) -> dict[str, Item]:
        return {key[1]: item for key, item in keychain.items.items() if key[0] == "svc"}


def total(steps: Sequence[Step], field: str) -> int:
    return sum(len(getattr(step, field)) for step in steps)


def test_everything_is_copied_with_its_attributes_and_the_source_stays() -> None:
    both = Both()
    steps = both.copy()
    assert len(steps) == 3
    assert total(steps, "copied") == 120
    assert both.values(both.destination) == both.values(both.source)
    assert ("other", "stays") not in both.destination.items
    assert sorted(both.recorded) == sorted(both.values(both.source))
    again = both.copy()
    assert (total(again, "copied"), total(again, "alike")) == (0, 120)


def test_a_dry_run_changes_and_records_nothing() -> None:
    both = Both()
    assert total(both.copy(dry_run=True), "copied") == 120
    assert both.destination.items == {}
    assert both.recorded == []


def test_what_was_begun_is_finished_by_the_next() -> None:
    both = Both()
    both.copy(steps=1)
    assert len(both.values(both.destination)) == 50
    steps = both.copy()
    assert (total(steps, "copied"), total(steps, "alike")) == (70, 50)
    assert both.values(both.destination) == both.values(both.source)


def test_what_differs_is_reported_and_stays_unless_it_is_to_be_replaced() -> None:
    both = Both(3)
    asyncio.run(both.destination.write("svc", [("t000", "newer")], {}))
    asyncio.run(both.destination.write("svc", [("t001", "value 1")], {"number": "9"}))
    steps = both.copy()
    assert (steps[0].differing, steps[0].copied) == (["t000", "t001"], ["t002"])
    assert both.values(both.destination)["t000"].value == "newer"
    removed = both.remove()
    assert (removed[0].removed, removed[0].differing) == (["t002"], ["t000", "t001"])
    assert set(both.values(both.source)) == {"t000", "t001"}
    assert both.copy(replace=True)[0].copied == ["t000", "t001"]
    assert both.values(both.destination)["t000"].value == "value 0"


def test_only_what_is_alike_at_that_moment_is_removed() -> None:
    both = Both(3)
    both.copy()
    asyncio.run(both.source.write("svc", [("t001", "changed meanwhile")], {"number": "1"}))
    asyncio.run(both.destination.delete("svc", ["t002"], {}))
    assert both.remove()[0].removed == ["t000"]
    assert set(both.values(both.source)) == {"t001", "t002"}


class Forgetful(InMemory):
    """Says that it stored everything."""

    async def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> None:
        await super().write(service, [(target, value[:5]) for target, value in entries], attributes)


def test_a_copy_that_does_not_read_back_is_an_error_without_a_value() -> None:
    both = Both(3, value="a secret value")
    both.destination = Forgetful()
    with pytest.raises(KeychainError, match="does not read back") as caught:
        both.copy()
    assert "secret value" not in str(caught.value)
    assert both.remove()[0].removed == []
    assert len(both.values(both.source)) == 3


def test_nothing_is_changed_that_cannot_be_recorded() -> None:
    both = Both(3)

    def fail(targets: Sequence[str]) -> None:
        raise KeychainError("no record")

    migration = Migration("svc", both.source, both.destination, "", fail)
    with pytest.raises(KeychainError, match="no record"):
        asyncio.run(migration.copy("", replace=False, dry_run=False))
    assert both.destination.items == {}
    both.copy()
    with pytest.raises(KeychainError, match="no record"):
        asyncio.run(migration.remove(""))
    assert len(both.values(both.source)) == 3


class OddValue(InMemory):
    async def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        if "t007" in targets:
            raise ValueNotText("t007 is no text")
        return await super().read(service, targets, attributes)


def test_what_cannot_be_read_is_named_and_the_rest_is_copied() -> None:
    both = Both(20)
    odd = OddValue()
    odd.items = both.source.items
    both.source = odd
    steps = both.copy()
    assert [name for step in steps for name in step.unreadable] == ["t007"]
    assert total(steps, "copied") == 19


def test_large_values_are_copied_in_smaller_steps() -> None:
    both = Both(6, value="x" * 1000)
    both.source.answer_bytes = both.destination.answer_bytes = 2500
    steps = both.copy()
    assert total(steps, "copied") == 6
    assert len(steps) >= 3
    assert both.values(both.destination) == both.values(both.source)
