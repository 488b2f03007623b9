"""Writes whose rows are made later: durable before, the same afterwards, sealed and counted like all else."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from pathlib import Path
from typing import Any

import pytest
from journal_lab import entries, three_writes
from test_vault_changes import Gate
from vault_lab import at_once, contents, open_at, opened, placed, values

from keychain_auth.crypto import strongbox
from keychain_auth.crypto.stretch import Cost
from keychain_auth.errors import KeychainError
from keychain_auth.keychain.vault import Vault, backup, changing, restore, writer
from keychain_auth.protectors.keyfile import KeyFile


@pytest.fixture(autouse=True)
def _no_rows_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changing, "_QUIET_SECONDS", 3600.0)


def test_what_waits_is_there_after_a_death(tmp_path: Path) -> None:
    died = three_writes(tmp_path)
    assert len(entries(died)) == 3
    expected = {
        ("svc", "a"): ("4", {"n": "4"}),
        ("svc", "b"): ("1", None),
        **{("svc", f"new-{number}"): ("v", {"n": str(number)}) for number in (2, 3, 4)},
    }
    with opened(died) as (vault, runner):
        assert contents(vault) == expected
        assert vault.health()["secrets"] == 5
        report = runner.run(vault.check())
        assert (report.secrets, report.services, report.findings) == (5, 1, [])
        assert [(one.program, one.attributes) for one in runner.run(vault.history("svc", "a"))] == [
            ("/bin/p", {"n": "4"}),
            ("/bin/p", {"n": "3"}),
            ("/bin/p", {"n": "2"}),
            ("/bin/one", None),
        ]
        assert entries(died) == []
    with opened(died) as (vault, _):
        assert contents(vault) == expected


def test_a_look_at_what_waits_needs_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full, or a row that was altered, is no reason not to see what there is."""

    def fails(*_: object) -> None:
        raise KeychainError("no room")

    with opened(three_writes(tmp_path)) as (vault, runner):
        monkeypatch.setattr(vault._writer, "place", fails)
        report = runner.run(vault.check())
        assert (report.secrets, report.services, report.findings) == (5, 1, [])
        monkeypatch.undo()


def test_a_backup_of_what_waits_brings_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeychainError("no room")

    seal = strongbox.seal
    monkeypatch.setattr(strongbox, "seal", lambda *words, cost=None: seal(*words[:4], Cost(64, 1, 1)))
    with opened(three_writes(tmp_path)) as (vault, runner):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vault._writer, "place", fails)
            content = runner.run(vault.backup("correct horse battery", "now"))
        expected = contents(vault)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    unpacked = backup.unpack("b", content, "correct horse battery")
    done = restore.restore(str(elsewhere), unpacked, KeyFile, str(elsewhere / "vault.key"), "now")
    assert done.report.secrets == 5
    assert len(entries(elsewhere)) == 3
    with opened(elsewhere) as (vault, runner):
        assert contents(vault) == expected
        assert len(runner.run(vault.history("svc", "a"))) == 4


def test_rows_are_made_when_nobody_has_written_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changing, "_QUIET_SECONDS", 0.01)
    monkeypatch.setattr(changing, "_AT_ONCE", 3)

    async def story(vault: Vault) -> None:
        done = asyncio.Event()
        checkpoint, loop = vault._writer.checkpoint, asyncio.get_running_loop()

        def last() -> None:
            checkpoint()
            loop.call_soon_threadsafe(done.set)

        monkeypatch.setattr(vault._writer, "checkpoint", last)
        for number in range(5):
            await vault.write("svc", [(f"t{number}", "v"), ("same", str(number))], {})
        waiting = True
        while waiting:  # on a busy machine there were such moments between the writes, too
            await asyncio.wait_for(done.wait(), 60)
            done.clear()
            waiting = vault._writer.waiting_rows > 0

    with opened(tmp_path) as (vault, runner):
        runner.run(story(vault))
        assert entries(tmp_path) == []
        assert len(contents(vault)) == 6


def test_many_that_wait_are_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond ``_MANY`` in the background, beyond ``MOST_WAITING`` by the write itself."""
    monkeypatch.setattr(writer, "MOST_WAITING", 6)
    with opened(tmp_path) as (vault, runner):
        for number in range(5):
            runner.run(vault.write("svc", [(f"{number}-{at}", "v") for at in range(3)], {}))
            assert vault._writer.waiting_rows == 3 + 3 * (number % 2)
        monkeypatch.setattr(changing, "_MANY", 1)

        async def story() -> None:
            await vault.write("svc", [("last", "v")], {})
            assert vault._placing is not None
            await vault._placing

        runner.run(story())
        assert vault._writer.waiting_rows == 0
        assert len(contents(vault)) == 16


def _told(vault: Vault, runner: asyncio.Runner) -> Any:
    """Everything that a person can see: values, and what is known of the earlier ones."""
    names = {target for _, target in contents(vault)} | {f"t{number}" for number in range(6)}
    past = {
        target: [(one.number, one.program, one.attributes) for one in runner.run(vault.history("svc", target))]
        for target in sorted(names)
    }
    state = vault._writer.state
    assert runner.run(vault.check()).findings == []
    return contents(vault), past, (state.count, state.past_count, state.waiting_count, state.waiting_members)


@pytest.mark.parametrize("keep", [0, 1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_rows_made_late_are_those_made_at_once(tmp_path: Path, seed: int, keep: int) -> None:
    chance = random.Random(seed)
    orders = []
    for number in range(40):
        targets = chance.sample([f"t{at}" for at in range(6)], chance.randint(1, 4))
        value = chance.choice(["same", f"v{number}", "x" * 5000])
        orders.append((chance.random() < 0.85, targets, value, chance.choice([{}, {}, {"n": str(number % 3)}])))
    told = []
    for late in (False, True):
        (tmp_path / str(late)).mkdir(mode=0o700)
        with opened(tmp_path / str(late)) as (vault, runner):
            vault._writer._history.keep = keep
            for number, (writes, targets, value, attributes) in enumerate(orders):
                if writes:
                    pairs = [(target, value) for target in targets]
                    runner.run(vault.write("svc", pairs, attributes, f"/bin/{number}"))
                else:
                    runner.run(vault.delete("svc", targets, {}))
                if not late:
                    placed(vault)
            told.append(_told(vault, runner))
    assert told[0] == told[1]


def test_a_long_value_and_a_short_one_in_turn(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        for value in ("x" * 5000, "short", "y" * 5000, "short again"):
            runner.run(vault.write("svc", [("t", value)], {}))
            assert values(at_once(vault.read("svc", ["t"], {}))) == [value]
        assert len(runner.run(vault.history("svc", "t"))) == 4


# --- several at once -----------------------------------------------------------------------------------------------


def test_writers_that_wait_share_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each is whole, in the order in which they asked; a delete among them has its place."""
    with opened(tmp_path) as (vault, runner):
        append, sizes = vault._writer.append, []

        def counted(batches: Any) -> Any:
            sizes.append(len(batches))
            return append(batches)

        monkeypatch.setattr(vault._writer, "append", counted)

        async def story() -> None:
            gate = Gate(vault)
            async with gate.between(vault.write("svc", [("first", "v")], {})):
                writes = [
                    asyncio.create_task(vault.write("svc", [("shared", str(number)), (f"own-{number}", "v")], {}))
                    for number in range(39)
                ]
                deletion = asyncio.create_task(vault.delete("svc", ["own-3"], {}))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                writes += [asyncio.create_task(vault.write("svc", [(f"more-{at}", "v")], {})) for at in range(10)]
                await asyncio.sleep(0)
            await asyncio.gather(*writes, deletion)

        runner.run(story())
        assert sizes == [1, 39, 10]
        found = contents(vault)
        assert len(found) == 50
        assert found["svc", "shared"] == ("38", None)
    with opened(tmp_path) as (vault, _):
        assert contents(vault) == found


def test_who_shares_a_transaction_that_fails_is_told_and_can_go_on(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        seal_state = vault._codec.seal_state

        async def together(first: int) -> list[object]:
            return await asyncio.gather(
                *(vault.write("svc", [(f"t{number}", "v")], {}) for number in range(first, first + 5)),
                return_exceptions=True,
            )

        def fails(_: object) -> bytes:
            raise MemoryError

        vault._codec.seal_state = fails  # type: ignore[method-assign, assignment]
        assert [type(each) for each in runner.run(together(0))] == [MemoryError] * 5
        assert contents(vault) == {}
        vault._codec.seal_state = seal_state  # type: ignore[method-assign]
        assert runner.run(together(5)) == [None] * 5
        known = contents(vault)
        assert len(known) == 5
    with opened(tmp_path) as (vault, _):
        assert contents(vault) == known


def test_a_closed_vault_refuses_those_that_wait(tmp_path: Path) -> None:
    async def story(vault: Vault) -> list[object]:
        first = asyncio.ensure_future(vault.write("svc", [("t", "v")], {}))
        await asyncio.sleep(0)
        return await asyncio.gather(first, vault.close(), vault.write("svc", [("u", "v")], {}), return_exceptions=True)

    with asyncio.Runner() as runner:
        done, closed, late = runner.run(story(open_at(tmp_path)))
    assert (done, closed) == (None, None)
    assert isinstance(late, KeychainError)
    with opened(tmp_path) as (vault, _):
        assert contents(vault) == {("svc", "t"): ("v", None)}


def test_a_closed_vault_lets_go_of_its_keys_without_a_collector(tmp_path: Path) -> None:
    """OpenSSL clears its copy of a key when the object goes: a cycle of references would keep it."""
    gc.disable()
    try:
        with asyncio.Runner() as runner:
            vault = open_at(tmp_path)
            runner.run(vault.write("svc", [("t", "v")], {}))
            left = weakref.ref(vault)
            runner.run(vault.close())
            del vault
            assert left() is None
    finally:
        gc.enable()
