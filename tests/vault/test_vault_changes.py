"""Changes that overlap: with each other, with reads, with cancellation, with a disk that is full."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from vault_lab import Child, at_once, contents, open_at, opened, tampering, values

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.vault import Vault
from keychain_auth.model import Item


class Gate:
    """Holds the writer's thread after a commit, before the event loop hears of it."""

    def __init__(self, vault: Vault) -> None:
        self.committed, self.go_on = threading.Event(), threading.Event()
        for name in ("append", "write", "delete"):
            setattr(vault._writer, name, self._held(getattr(vault._writer, name)))

    def _held(self, commit: object) -> object:
        def held(*arguments: object) -> object:
            result = commit(*arguments)  # type: ignore[operator]
            self.committed.set()
            assert self.go_on.wait(60)
            return result

        return held

    @contextlib.asynccontextmanager
    async def between(self, change: object):  # type: ignore[no-untyped-def]
        """Inside: ``change`` is on disk, and not in memory."""
        task = asyncio.ensure_future(change)  # type: ignore[arg-type]
        assert await asyncio.to_thread(self.committed.wait, 10)
        try:
            yield task
        finally:
            self.go_on.set()
        await task


def test_reads_beside_an_unfinished_write(tmp_path: Path) -> None:
    """Short values: the old one until the write returns. Long ones: old or new, never an error, never a mixture."""
    old, new = "old" * 3000, "new" * 3000

    async def story(vault: Vault) -> None:
        await vault.write("svc", [("long", old), ("short", "old")], {"age": "old"})
        gate = Gate(vault)
        async with gate.between(vault.write("svc", [("long", new), ("short", "new")], {"age": "new"})):
            assert at_once(vault.read("svc", ["short"], {})) == [Item("short", "old", {"age": "old"})]
            assert at_once(vault.read("svc", ["long"], {})) == [Item("long", new, {"age": "new"})]
            assert at_once(vault.read("svc", ["long"], {"age": "old"})) == []
        assert values(at_once(vault.read("svc", ["short", "long"], {"age": "new"}))) == ["new", new]

    with opened(tmp_path) as (vault, runner):
        runner.run(story(vault))


def test_reads_beside_an_unfinished_delete(tmp_path: Path) -> None:
    async def story(vault: Vault) -> None:
        await vault.write("svc", [("long", "x" * 9000), ("short", "v")], {})
        gate = Gate(vault)
        async with gate.between(vault.delete("svc", ["long", "short"], {})):
            assert values(at_once(vault.read("svc", ["short", "long"], {}))) == ["v"]
        assert at_once(vault.read("svc", ["short", "long"], {})) == []

    with opened(tmp_path) as (vault, runner):
        runner.run(story(vault))


def test_what_a_delete_matches_is_decided_when_its_turn_comes(tmp_path: Path) -> None:
    """A write changes the attributes while a delete for the old ones waits: in either order the target survives."""

    async def story(vault: Vault) -> None:
        await vault.write("svc", [("t", "1")], {"environment": "staging"})
        gate = Gate(vault)
        async with gate.between(vault.write("svc", [("t", "2")], {"environment": "production"})):
            deletion = asyncio.create_task(vault.delete("svc", ["t"], {"environment": "staging"}))
            await asyncio.sleep(0)
        await deletion
        assert values(at_once(vault.read("svc", ["t"], {}))) == ["2"]

    with opened(tmp_path) as (vault, runner):
        runner.run(story(vault))


def test_cancelling_the_caller_tears_nothing_apart(tmp_path: Path) -> None:
    """What was begun is finished, and seen; a write whose turn had not come is not made."""

    async def story(vault: Vault) -> None:
        gate = Gate(vault)
        async with gate.between(vault.write("svc", [("first", "v")], {})):
            waiting = [
                asyncio.create_task(change)
                for change in (vault.write("svc", [("second", "v")], {}), vault.delete("svc", ["first"], {}))
            ]
            await asyncio.sleep(0)
            waiting[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting[0]
        await waiting[1]
        await vault.write("svc", [("third", "v")], {})
        assert [item.target for item in at_once(vault.search("svc", [], {}))] == ["third"]
        begun = asyncio.create_task(vault.write("svc", [("fourth", "v")], {}))
        await asyncio.sleep(0)
        begun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begun
        assert [item.target for item in at_once(vault.search("svc", [], {}))] == ["fourth", "third"]
        await vault.write("svc", [("fifth", "v")], {})

    with opened(tmp_path) as (vault, runner):
        runner.run(story(vault))
        known = contents(vault)
    with opened(tmp_path) as (vault, _):
        assert contents(vault) == known


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    async def story(vault: Vault) -> None:
        async def one(number: int) -> None:
            await vault.write("svc", [(f"own-{number}", "v"), ("shared", str(number))], {})
            if number % 3 == 0:
                await vault.delete("svc", [f"own-{number}"], {})

        await asyncio.gather(*(one(number) for number in range(60)))

    with opened(tmp_path) as (vault, runner):
        runner.run(story(vault))
        known = contents(vault)
    assert len(known) == 41
    with opened(tmp_path) as (vault, _):
        assert contents(vault) == known


def test_closing_waits_for_what_is_under_way(tmp_path: Path) -> None:
    async def story(vault: Vault) -> None:
        gate = Gate(vault)
        async with gate.between(vault.write("svc", [("t", "v")], {})):
            closing = asyncio.create_task(vault.close())
            await asyncio.sleep(0)
            assert not closing.done()
        await closing

    with asyncio.Runner() as runner:
        runner.run(story(open_at(tmp_path)))
    with opened(tmp_path) as (vault, _):
        assert contents(vault) == {("svc", "t"): ("v", None)}


def test_a_retry_never_reuses_the_number_of_a_failed_attempt(tmp_path: Path) -> None:
    """Else the failed attempt's ciphertext, still in the log, would fit the row of the retry."""
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.write("svc", [("t", "v")], {}))
        before = vault._writer.state
        attempts = []
        original = vault._codec.seal_state

        def fails(state: object) -> bytes:
            attempts.append(state.generation)  # type: ignore[attr-defined]
            raise MemoryError

        vault._codec.seal_state = fails  # type: ignore[method-assign, assignment]
        for _ in range(3):
            with pytest.raises(MemoryError):
                runner.run(vault.write("svc", [("t", "other")], {}))
        assert vault._writer.state == before
        vault._codec.seal_state = original  # type: ignore[method-assign]
        runner.run(vault.write("svc", [("t", "last")], {}))
        numbers = [before.generation, *attempts, vault._writer.state.generation]
        assert numbers == sorted(set(numbers))
    with opened(tmp_path) as (vault, _):
        assert contents(vault) == {("svc", "t"): ("last", None)}


def test_another_program_holding_the_file_is_an_error_not_a_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keychain_auth.keychain.vault.database._BUSY_SECONDS", 0.05)
    with opened(tmp_path) as (vault, runner):
        with tampering(tmp_path) as db:
            db.execute("BEGIN IMMEDIATE")
            with pytest.raises(KeychainError, match="another program has locked the file"):
                runner.run(vault.write("svc", [("t", "v")], {}))
            db.execute("ROLLBACK")
        runner.run(vault.write("svc", [("t", "v")], {}))
        assert len(contents(vault)) == 1


# --- no space ------------------------------------------------------------------------------------------------------


def _write_until_refused(vault: Vault, runner: asyncio.Runner) -> tuple[int, KeychainError]:
    """Batches of two until one fails; how many succeeded, and the failure."""
    for number in range(1000):
        try:
            entries = [(f"n{number}-{part}", "SecretValue" * 2000) for part in (0, 1)]
            runner.run(vault.write("svc", entries, {}))
        except KeychainError as error:
            return number, error
    raise AssertionError("nothing was ever refused")


def _survives(folder: Path, vault: Vault, runner: asyncio.Runner, relieve: object) -> None:
    """A full disk refuses a batch whole and without its values; the vault reads on, and writes when there is room."""
    runner.run(vault.write("svc", [("old", "v")], {}))
    done, error = _write_until_refused(vault, runner)
    assert done > 0
    assert type(error) is KeychainError
    assert str(folder) in str(error)
    assert "Secret" not in f"{error}{error.__cause__}{error.hint}"
    for _ in range(3):
        with pytest.raises(KeychainError):
            runner.run(vault.write("svc", [("big", "x" * 250_000)], {}))
    known = contents(vault)
    assert len(known) == 1 + 2 * done
    assert known["svc", "old"] == ("v", None)
    relieve()  # type: ignore[operator]
    runner.run(vault.write("svc", [("after", "v"), ("old", "v2")], {}))
    runner.run(vault.delete("svc", ["n0-0"], {}))
    known = contents(vault)
    assert len(known) == 1 + 2 * done
    assert known["svc", "old"] == ("v2", None)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes write(2) fail with EFBIG: an I/O error to SQLite. In a child, the limit is the process's."""
    import resource  # Windows has none

    def work(_: int) -> None:
        with opened(tmp_path) as (vault, runner):
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
            _survives(tmp_path, vault, runner, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))

    assert Child(work).finish()[0] == 0
    with opened(tmp_path) as (vault, _):
        assert contents(vault)["svc", "old"] == ("v2", None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, where root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    done = None
    if os.geteuid() == 0:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(place)], check=False, capture_output=True
        )
    if done is None or done.returncode:
        pytest.skip("only root can mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with opened(small_disk) as (vault, runner):
        filler.write_bytes(bytes(300_000))
        _survives(small_disk, vault, runner, filler.unlink)
        known = contents(vault)
    with opened(small_disk) as (vault, _):
        assert contents(vault) == known


def test_a_first_start_on_a_full_disk_can_be_repeated(small_disk: Path) -> None:
    filler = small_disk / "filler"
    free = os.statvfs(small_disk).f_bavail * 4096
    filler.write_bytes(bytes(free - 8192))
    with pytest.raises(KeychainError, match=r"vault\.db") as caught:
        open_at(small_disk)
    assert caught.value.hint
    filler.unlink()
    with opened(small_disk) as (vault, _):
        assert contents(vault) == {}
