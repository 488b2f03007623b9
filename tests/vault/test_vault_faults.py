"""Death, power cuts and errors of the disk at every boundary: a batch is there whole or not at all, what was reported
stays, and what failed changed nothing and can be tried again.

A boundary is a call that changes the disk (``tests/support/c/faults.c``). FAULTS=all tries each of them in every way;
otherwise an even choice of them.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_lab import (
    CHANCE,
    ERRORS,
    FAIL,
    FOR_EVER,
    HALF,
    KILL,
    POWER,
    START,
    WORDS,
    Disk,
    Fault,
    boundaries,
    held,
    put_back,
    states,
)
from test_vault_samples import held as held_with_names
from test_vault_samples import sample
from vault_lab import contents, fill, open_at, opened

from keychain_auth.crypto import strongbox
from keychain_auth.crypto.stretch import Cost
from keychain_auth.errors import VaultError, VaultKeyMissing
from keychain_auth.keychain.vault import backup
from keychain_auth.keychain.vault.database import connect
from keychain_auth.keychain.vault.format import FORMAT
from support import programs

MOST = 10_000 if os.environ.get("FAULTS") == "all" else 7
DEATHS = {
    "killed": Fault(action=KILL),
    "killed in the middle of a write": Fault(action=HALF),
    "power cut": Fault(action=POWER),
    "power cut, some of it written": Fault(action=CHANCE),
}
FAILURES = {
    **{f"{os.strerror(number)}, once": Fault(action=FAIL, number=number) for number in ERRORS},
    **{f"{os.strerror(number)}, until mended": Fault(action=FAIL, number=number, times=FOR_EVER) for number in ERRORS},
}


@pytest.fixture(scope="module")
def disk() -> Iterator[Disk]:
    if not sys.platform.startswith("linux"):
        pytest.skip("the disk that fails is preloaded by the loader of Linux")
    made = Disk(programs.compiled(os.path.join(programs.HERE, "c", "faults.c"), shared=True))
    yield made
    made.close()


def each(
    disk: Disk, scenario: str, fault: Fault, folder: Path, prepare: Callable[[Path], None]
) -> Iterator[tuple[int, list[int], Path]]:
    """(status, reports, folder) for each boundary of the scenario at which the fault strikes."""
    prepare(folder / "whole")
    whole = disk.run(scenario, folder / "whole")
    assert whole.status == 0
    assert whole.boundaries > 5
    for at in boundaries(whole.boundaries, MOST, fault.action + fault.number):
        place = folder / str(at)
        prepare(place)
        status, reports, met = disk.run(scenario, place, fault._replace(at=at, seed=at))
        if status != 0 or met >= at:  # how rows lie on pages depends on random numbers: the last boundaries may be less
            yield status, reports, place
        shutil.rmtree(place)
        shutil.rmtree(f"{place}.attic", ignore_errors=True)


def started(folder: Path) -> None:
    folder.mkdir()
    fill(folder, START)


def in_order(folder: Path) -> dict[str, str | None]:
    """What the vault holds, after every row was checked and a change went through."""
    with opened(folder) as (vault, runner):
        report = runner.run(vault.check())
        assert report.findings == []
        found = held(vault)
        runner.run(vault.write("later", [("t", "v")], {}))
    with opened(folder) as (vault, runner):
        assert contents(vault)["later", "t"] == ("v", None)
        assert runner.run(vault.check()).ok
    return found


@pytest.mark.parametrize("fault", DEATHS.values(), ids=DEATHS.keys())
def test_a_death_anywhere_leaves_whole_batches(disk: Disk, tmp_path: Path, fault: Fault) -> None:
    known = states()
    met = set()
    for status, reports, place in each(disk, "changes", fault, tmp_path, started):
        assert status == -9
        done = reports[-1] if reports else 0
        # What was under way may have been committed and not yet reported; nothing less, nothing else.
        assert in_order(place) in known[done : done + 2], (place, reports)
        met.add(done)
    assert len(met) > 3


@pytest.mark.parametrize("fault", FAILURES.values(), ids=FAILURES.keys())
def test_what_the_disk_refuses_did_not_happen_and_can_be_done_again(disk: Disk, tmp_path: Path, fault: Fault) -> None:
    refused = 0
    for status, reports, place in each(disk, "changes", fault, tmp_path, started):
        assert status == 0, (place, reports)  # the child itself compared memory and model at each step
        assert in_order(place) == states()[-1]
        refused += any(report >= 100 for report in reports)
    assert refused > 3


@pytest.mark.parametrize("fault", [*DEATHS.values(), *FAILURES.values()], ids=[*DEATHS.keys(), *FAILURES.keys()])
def test_a_first_start_can_go_on(disk: Disk, tmp_path: Path, fault: Fault) -> None:
    for status, reports, place in each(disk, "opening", fault, tmp_path, Path.mkdir):
        assert status == (0 if fault.action == FAIL else -9), (place, reports)
        assert in_order(place) == {}


@pytest.mark.parametrize("fault", [*DEATHS.values(), *FAILURES.values()], ids=[*DEATHS.keys(), *FAILURES.keys()])
@pytest.mark.parametrize("name", ["format-1", "format-1-crashed", "format-2-crashed"])
def test_a_migration_is_whole_or_not_at_all(disk: Disk, tmp_path: Path, name: str, fault: Fault) -> None:
    def old(folder: Path) -> None:
        folder.mkdir()
        sample(name, folder)

    (tmp_path / "expected").mkdir()
    expected = sample(name, tmp_path / "expected")
    for status, reports, place in each(disk, "opening", fault, tmp_path, old):
        assert status == (0 if fault.action == FAIL else -9), (place, reports)
        db = connect(str(place / "vault.db"), "mode=ro")
        assert db.execute("PRAGMA user_version").fetchone()[0] in (int(name.split("-")[1]), FORMAT)
        db.close()
        assert held_with_names(place) == expected
        in_order(place)


@pytest.mark.parametrize("fault", [*DEATHS.values(), *FAILURES.values()], ids=[*DEATHS.keys(), *FAILURES.keys()])
@pytest.mark.parametrize("there", ["newer", "another", "none"])
def test_a_restoration_loses_neither_the_old_vault_nor_the_backup(
    disk: Disk, tmp_path: Path, there: str, fault: Fault
) -> None:
    """Before, the old vault opens; after, the restored one; in between an error says what to do, and that helps."""
    old = {"newer": START | {"newer": "v"}, "another": {"other": "v"}, "none": {}}[there]
    started(tmp_path / "origin")
    with opened(tmp_path / "origin") as (vault, _):
        image = backup.snapshot(vault.path)
        content = strongbox.seal("backup", WORDS, bytes(vault._key) + image, "now", Cost(64, 1, 1))
    (tmp_path / "backup").write_bytes(content)

    def prepare(folder: Path) -> None:
        if there == "newer":
            shutil.copytree(tmp_path / "origin", folder)
            fill(folder, {"newer": "v"})
        elif there == "another":
            folder.mkdir()
            fill(folder, old)
        else:
            folder.mkdir()

    stages = set()
    for status, reports, place in each(disk, "restoring", fault, tmp_path, prepare):
        assert status == (0 if fault.action == FAIL else -9), (place, reports)
        stage = "restored"
        if fault.action != FAIL:
            stage = "cut off" if (place / "vault.db.restoring").exists() else "whole"
            if stage == "cut off":
                with pytest.raises(VaultError, match=r"a restoration of .* was cut off"):
                    open_at(place)
                put_back(place)
        stages.add(stage)
        found = in_order(place)
        if found == old and stage == "whole":
            continue
        assert found == START, (place, reports, stage)
        put_aside = [path for path in place.glob("before-restore-*") if (path / "vault.db").exists()]
        if there != "none":
            assert old in [_aside(path, place) for path in put_aside], (place, stage)
    assert stages == {"restored"} if fault.action == FAIL else "whole" in stages


def _aside(folder: Path, place: Path) -> dict[str, str | None]:
    """What the vault that was put aside holds; its key file went along, stayed, or went elsewhere."""
    own = folder / "vault.key"
    keys = [own] if own.exists() else [place / "vault.key", *place.glob("before-restore-*/vault.key")]
    for key in keys:
        if key != own:
            shutil.copy(key, own)
        try:
            with opened(folder) as (vault, _):
                return held(vault)
        except VaultKeyMissing:
            own.unlink()
    return {}


@pytest.mark.parametrize("fault", [*DEATHS.values(), *FAILURES.values()], ids=[*DEATHS.keys(), *FAILURES.keys()])
def test_a_file_that_is_replaced_is_the_old_or_the_new(disk: Disk, tmp_path: Path, fault: Fault) -> None:
    def old(folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_bytes(b"0" * 10000)

    for status, reports, place in each(disk, "replacing", fault, tmp_path, old):
        assert status == (0 if fault.action == FAIL else -9), (place, reports)
        done = max((report for report in reports if report < 100), default=0)
        content = (place / "config.json").read_bytes()
        assert content in [b"%d" % number * 10000 for number in (done, done + 1)], (place, reports, content[:1])


def test_the_power_cut_is_one(disk: Disk, tmp_path: Path) -> None:
    """The disk itself: what no fsync made durable is lost in a power cut, and is there after a kill."""
    left = {
        (KILL, 4): {"f": b"one"},
        (POWER, 2): {},
        (POWER, 3): {"f": b""},
        (POWER, 4): {"f": b""},
        (POWER, 5): {"f": b"one"},
        (POWER, 6): {"f": b"one"},
        (POWER, 7): {"f": b"one"},
        (KILL, 7): {"g": b"onetwo"},
        (HALF, 5): {"f": b"onet"},
    }
    for (action, at), expected in left.items():
        folder = tmp_path / f"{action}-{at}"
        folder.mkdir()
        assert disk.run("careless", folder, Fault(at, action)).status == -9
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected, (action, at)
