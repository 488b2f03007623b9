"""kill -9 at any moment: what was reported is there, a batch is there whole or not at all, a first start can go on.

A killed process leaves what it handed to the kernel; these tests show atomicity and order. That a commit is on the disk
before it is reported rests on SQLite's ``synchronous=FULL``, which the last test looks at.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from vault_lab import Child, at_once, contents, fill, open_at, opened, values

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.vault import order

TARGETS = [f"target-{number}" for number in range(12)]
NUMBER = 8


def _state_after(batch: int) -> dict[str, str]:
    """Batch n writes n into every target, each fourth deletes them all."""
    return {} if batch % 4 == 0 else dict.fromkeys(TARGETS, f"{batch} " * 50)


def _writes_for_ever(folder: Path, first: int, pipe: int) -> None:
    with opened(folder) as (vault, runner):
        for batch in range(first, 1 << 62):
            entries = list(_state_after(batch).items())
            if entries:
                runner.run(vault.write("svc", entries, {}))
            else:
                runner.run(vault.delete("svc", TARGETS, {}))
            os.write(pipe, batch.to_bytes(NUMBER, "big"))


def _reported_until_killed(child: Child, seconds: float) -> int:
    """Read reports for so long, then kill; the last number that was reported (0: none)."""
    reports = os.read(child.pipe, 65536)  # the first one: the child is at work
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([child.pipe], [], [], left)[0]:
            reports += os.read(child.pipe, 65536)
    reports += child.kill()
    assert len(reports) % NUMBER == 0
    return int.from_bytes(reports[-NUMBER:], "big")


def test_killed_at_random_moments_nothing_reported_is_lost(tmp_path: Path) -> None:
    chance = random.Random(20)
    done = 0
    unreported = 0
    for _ in range(60):
        child = Child(lambda pipe, first=done + 1: _writes_for_ever(tmp_path, first, pipe))
        reported = _reported_until_killed(child, chance.uniform(0, 0.02))
        assert reported > done
        with opened(tmp_path) as (vault, _):
            found = {target: value for (_, target), (value, _) in contents(vault).items()}
        # The one batch that was under way may have been committed and not yet reported; nothing else.
        possible = [batch for batch in (reported, reported + 1) if found == _state_after(batch)]
        assert possible, (reported, sorted(set(found.values())))
        done = possible[0]
        unreported += done != reported
    assert done > 60


def _creates(folder: Path, exit_at: int, pipe: int) -> None:
    """Open a first vault and die, without any clean-up, at the given call that Python makes on the way."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += 1
        if calls == exit_at:
            os._exit(42)

    sys.setprofile(count)
    vault = open_at(folder)
    sys.setprofile(None)
    os.write(pipe, calls.to_bytes(NUMBER, "big"))
    at_once(vault.close())


def test_a_first_start_cut_off_anywhere_can_go_on(tmp_path: Path) -> None:
    """At each 1/90 of the way. It leaves nothing, or what can be finished, or a whole vault; never a dead end."""
    status, report = Child(lambda pipe: _creates(tmp_path / "whole", 0, pipe)).finish()
    assert status == 0
    total = int.from_bytes(report, "big")
    left_behind = set()
    for exit_at in range(1, total, max(1, total // 90)):
        folder = tmp_path / str(exit_at)
        status, _ = Child(lambda pipe, at=exit_at, where=folder: _creates(where, at, pipe)).finish()
        # Waiting for the writer's thread takes a few calls more or less: the last ones may not be reached.
        assert status == 42 or (status == 0 and exit_at > 0.9 * total)
        names = {path.name for path in folder.glob("vault.*")} if folder.exists() else set()
        left_behind.add(frozenset(names & {"vault.db", "vault.db.new", "vault.key"}))
        fill(folder, {"t": "v"})
        with opened(folder) as (vault, _):
            assert contents(vault) == {("svc", "t"): ("v", None)}
        assert {path.name for path in folder.glob("vault.*")} == {"vault.db", "vault.db.lock", "vault.key"}
    # Every stage was really met.
    assert left_behind == {
        frozenset(),
        frozenset({"vault.db.new"}),
        frozenset({"vault.db.new", "vault.key"}),
        frozenset({"vault.db", "vault.key"}),
    }


def test_a_first_start_killed_at_random_moments_can_go_on(tmp_path: Path) -> None:
    """SIGKILL also strikes inside SQLite's and the kernel's work."""
    chance = random.Random(21)
    for number in range(20):
        folder = tmp_path / str(number)
        child = Child(lambda pipe, where=folder: _creates(where, 0, pipe))
        select.select([child.pipe], [], [], chance.uniform(0, 0.012))
        child.kill()
        fill(folder, {"t": "v"})
        with opened(folder) as (vault, _):
            assert values(at_once(vault.read("svc", ["t"], {}))) == ["v"]


def test_a_finished_first_start_needs_its_own_key(tmp_path: Path) -> None:
    """A vault.db.new beside another vault's key is not completed, and not thrown away."""
    for name in ("one", "two"):
        with opened(tmp_path / name):
            pass
    (tmp_path / "one" / "vault.db").rename(tmp_path / "two" / "vault.db.new")
    (tmp_path / "two" / "vault.db").unlink()
    before = (tmp_path / "two" / "vault.db.new").read_bytes()
    with pytest.raises(KeychainError, match="another vault"):
        open_at(tmp_path / "two")
    assert (tmp_path / "two" / "vault.db.new").read_bytes() == before
    assert not (tmp_path / "two" / "vault.db").exists()


def test_commits_are_synced_and_there_is_one_writer(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, _):

        def settings() -> list[object]:
            db = vault._writer._connection()
            names = ("journal_mode", "synchronous", "secure_delete", "trusted_schema")
            return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert [thread.name for thread in threading.enumerate()].count("vault-writer") == 1
        # 2 is FULL: the log is fsynced before COMMIT returns (sqlite.org/pragma.html#pragma_synchronous).
        assert vault._worker.submit(settings).result() == [b"wal", 2, 1, 0]


def test_a_write_cut_off_by_the_end_of_the_event_loop_leaves_memory_and_disk_together(tmp_path: Path) -> None:
    """The loop ends, and cancels every task, when the commit is on disk and the index does not know of it."""
    vault = open_at(tmp_path)
    committed, asked = threading.Event(), threading.Event()
    commit = vault._writer.append

    def held(*arguments: Any) -> Any:
        result = commit(*arguments)
        committed.set()
        assert asked.wait(60)
        return result

    wait = order._Group.wait

    def watched(group: Any) -> None:
        asked.set()
        wait(group)

    async def leaves_early() -> None:
        tasks.append(asyncio.create_task(vault.write("svc", [("t", "v")], {})))
        tasks.append(asyncio.create_task(vault.write("svc", [("waiting", "v")], {})))
        assert await asyncio.to_thread(committed.wait, 10)

    tasks: list[asyncio.Task[None]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault._writer, "append", held)
        patch.setattr(order._Group, "wait", watched)
        with asyncio.Runner() as runner:
            runner.run(leaves_early())
    assert asked.is_set()
    assert all(task.cancelled() for task in tasks)
    assert contents(vault) == {("svc", "t"): ("v", None)}
    at_once(vault.close())
    with opened(tmp_path) as (again, _):
        assert contents(again) == {("svc", "t"): ("v", None)}
