"""How much an owner stores: never more than allowed, whatever is written side by side; and what measuring costs."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from vault_lab import opened

from keychain_auth.errors import KeychainError
from keychain_auth.keychain import quota as quota_module
from keychain_auth.keychain.owned import OwnedKeychain
from keychain_auth.keychain.quota import Quota, QuotaExceeded, size_of
from keychain_auth.keychain.vault import Vault
from keychain_auth.policy.users import belongs

SHARED = {"team"}


def made(vault: Vault, secrets: int = 5, stored_bytes: int = 10_000_000) -> tuple[OwnedKeychain, OwnedKeychain]:
    quota = Quota(
        lambda owner, service, targets: vault.stored(partial(belongs, owner=owner), service, targets),
        secrets,
        stored_bytes,
    )
    ann, bob = (OwnedKeychain(vault, uid, lambda: SHARED, quota) for uid in (1, 11))
    return ann, bob


def targets(first: int, last: int, value: str = "v") -> list[tuple[str, str]]:
    return [(f"t{number}", value) for number in range(first, last + 1)]


def test_so_many_secrets_and_no_more(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        ann, bob = made(vault)
        runner.run(ann.write("a", targets(1, 3), {}))
        runner.run(ann.write("b", targets(4, 5), {}))
        for _ in range(3):
            runner.run(ann.write("a", targets(1, 3, "again"), {}))  # what is there already counts once
        with pytest.raises(QuotaExceeded, match="stores 5 other secrets"):
            runner.run(ann.write("c", targets(6, 6), {}))
        assert runner.run(ann.search("c", (), {})) == []
        runner.run(bob.write("a", targets(1, 5), {}))  # "@1:" is not the beginning of "@11:"
        runner.run(ann.delete("a", ["t1"], {}))
        runner.run(ann.write("c", targets(6, 6), {}))
        with pytest.raises(QuotaExceeded):
            runner.run(ann.write("c", targets(7, 7), {}))


def test_so_many_bytes_long_values_on_the_disk_included(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        attributes = {"färbe": "grün"}
        entries = [("kürz", "x" * 100), ("long", "y" * 50_000)]
        ann, _ = made(vault, stored_bytes=100_000)
        runner.run(ann.write("a", entries, attributes))
        assert runner.run(vault.stored(partial(belongs, owner="@1:"))) == (2, size_of(entries, attributes))
        for _ in range(3):
            runner.run(ann.write("a", [("long", "z" * 49_000)], {}))
        with pytest.raises(QuotaExceeded):
            runner.run(ann.write("a", [("another", "z" * 60_000)], {}))


def test_a_shared_service_is_an_owner_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        ann, bob = made(vault)
        runner.run(ann.write("team", targets(1, 5), {}))
        with pytest.raises(QuotaExceeded):
            runner.run(bob.write("team", targets(6, 6), {}))
        runner.run(bob.write("own", targets(1, 5), {}))


def test_what_is_written_side_by_side_counts(tmp_path: Path) -> None:
    """The attack: ask fifty times before the first is stored. Without the count of what is under way it wins."""

    async def at_once(ann: OwnedKeychain) -> list[object]:
        writes = (ann.write("a", targets(number, number), {}) for number in range(50))
        return await asyncio.gather(*writes, return_exceptions=True)

    with opened(tmp_path) as (vault, runner):
        naive = OwnedKeychain(vault, 3, lambda: SHARED)

        async def look_first(number: int) -> None:  # what a check without that count comes to
            if (await vault.stored(partial(belongs, owner="@3:")))[0] < 5:
                await naive.write("a", targets(number, number), {})

        async def beside() -> None:
            await asyncio.gather(*(look_first(number) for number in range(50)))

        runner.run(beside())
        assert runner.run(vault.stored(partial(belongs, owner="@3:")))[0] > 5
        ann, _ = made(vault)
        outcomes = runner.run(at_once(ann))
        assert sum(outcome is None for outcome in outcomes) == 5
        assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 45
        assert runner.run(vault.stored(partial(belongs, owner="@1:")))[0] == 5


def test_who_is_at_the_limit_is_measured_for_a_twentieth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waited, measured = 0.0, 0.0, 0

    async def measure(owner: str, service: str, targets: object) -> tuple[int, int]:
        nonlocal now, measured
        now, measured = now + 1.0, measured + 1
        return 5, 0

    async def sleep(seconds: float) -> None:
        nonlocal now, waited
        now, waited = now + seconds, waited + seconds

    monkeypatch.setattr(quota_module.asyncio, "sleep", sleep)
    quota = Quota(measure, 5, 1000, lambda: now)

    async def ask() -> None:
        for _ in range(10):
            with pytest.raises(QuotaExceeded):
                async with quota.room("@1:", "@1:a", [("t", "v")], {}):
                    raise AssertionError("there was room")

    asyncio.run(ask())
    assert measured == 10
    assert waited == 9 * 20.0


def test_a_write_that_failed_replaced_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack: what a failed write would have replaced by less is not there a second time."""
    with opened(tmp_path) as (vault, runner):
        ann, _ = made(vault, stored_bytes=10_000)
        runner.run(ann.write("a", [("t", "x" * 9_000)], {}))

        async def fail(*_: object) -> None:
            raise KeychainError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(vault, "write", fail)
            for _ in range(2):
                with pytest.raises(KeychainError, match="full"):
                    runner.run(ann.write("a", [("t", "")], {}))
        with pytest.raises(QuotaExceeded):
            runner.run(ann.write("a", [("u", "x" * 9_000)], {}))


class Slow:
    """Something that is measured only when the test lets it be, and then as it was when that began."""

    def __init__(self, count: int) -> None:
        self.go, self.began, self._count = asyncio.Event(), asyncio.Event(), count
        self.quota = Quota(self.measure, 3000, 1_000_000)

    async def measure(self, owner: str, service: str, targets: object) -> tuple[int, int]:
        self.began.set()
        await self.go.wait()
        return self._count, 0

    async def write(self, count: int) -> bool:
        """Whether there was room."""
        try:
            async with self.quota.room("@1:", "@1:a", targets(1, count), {}):
                return True
        except QuotaExceeded:
            return False


def test_who_comes_while_the_first_is_measured_waits_for_it() -> None:
    """The attack: many at once, before anybody knows how much there is."""

    async def come() -> list[bool]:
        slow = Slow(2900)
        first = asyncio.create_task(slow.write(10))
        await slow.began.wait()
        others = [asyncio.create_task(slow.write(200)) for _ in range(10)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert not any(other.done() for other in others)
        slow.go.set()
        return await asyncio.gather(first, *others)

    assert asyncio.run(come()) == [True] + [False] * 10


def test_what_is_written_while_it_is_measured_counts() -> None:
    """The attack: in the moment in which it is counted, write what the count does not see any more."""

    async def come() -> list[bool]:
        slow = Slow(2900)
        slow.go.set()
        assert await slow.write(1)
        slow.go.clear()
        slow.began.clear()
        large = asyncio.create_task(slow.write(100))  # would fit beside the 2,900 that are seen
        await slow.began.wait()
        meanwhile = [await slow.write(10) for _ in range(5)]
        slow.go.set()
        return [*meanwhile, await large]

    assert asyncio.run(come()) == [True] * 5 + [False]


def test_owners_are_forgotten_when_there_are_many() -> None:
    async def nothing(*_: object) -> tuple[int, int]:
        return 0, 0

    quota = Quota(nothing, 5, 1000)

    async def come() -> None:
        for number in range(1000):
            async with quota.room(f"@{number}:", "", [("t", "v")], {}):
                pass

    asyncio.run(come())
    assert len(quota._known) <= 256
