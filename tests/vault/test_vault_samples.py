"""Vaults that earlier versions wrote open with this one, and hold what they held (``samples/README.md``)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from vault_lab import contents, opened

from keychain_auth.keychain.vault import backup, restore
from keychain_auth.protectors.keyfile import KeyFile

SAMPLES = Path(__file__).parent / "samples"
NAMES = sorted(path.parent.name for path in SAMPLES.glob("*/expected.json"))


def sample(name: str, folder: Path) -> list[Any]:
    """Put the sample ``name`` into ``folder``, as private as a vault must be; what it must hold."""
    for file in sorted((SAMPLES / name).glob("vault.*")):
        shutil.copyfile(file, folder / file.name)
        (folder / file.name).chmod(0o600)
    expected: list[Any] = json.loads((SAMPLES / name / "expected.json").read_text(encoding="utf-8"))
    return expected


def held(folder: Path) -> list[Any]:
    with opened(folder) as (vault, _):
        return sorted([service, target, *rest] for (service, target), rest in contents(vault).items())


def test_there_is_a_sample_of_every_format() -> None:
    assert {"format-1", "format-1-crashed", "format-2-crashed", "format-3-crashed"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_opens_with_everything_in_it(tmp_path: Path, name: str) -> None:
    expected = sample(name, tmp_path)
    assert len(expected) > 10
    assert held(tmp_path) == expected
    assert held(tmp_path) == expected  # and once more, whatever the first opening did to it


def test_earlier_values_of_a_sample_are_there(tmp_path: Path) -> None:
    sample("format-2-crashed", tmp_path)
    with opened(tmp_path) as (vault, runner):
        assert runner.run(vault.check()).findings == []
        assert [(one.number, one.program) for one in runner.run(vault.history("svc", "target-3"))] == [
            (number, f"/usr/bin/program-{4 - number}") for number in range(4)
        ]
        runner.run(vault.restore_value("svc", "target-7", 1))
        assert contents(vault)["svc", "target-7"] == ("value 7", None)


def test_what_waited_in_a_sample_has_its_history(tmp_path: Path) -> None:
    sample("format-3-crashed", tmp_path)
    with opened(tmp_path) as (vault, runner):
        assert vault._writer.state.waiting_count == 3
        assert runner.run(vault.check()).findings == []
        assert [(one.number, one.program) for one in runner.run(vault.history("svc", "target-3"))] == [
            (number, f"/usr/bin/program-{5 - number}") for number in range(4)
        ]
        runner.run(vault.restore_value("svc", "long", 1))
        assert contents(vault)["svc", "long"] == ("x" * 9000, None)
        assert contents(vault)["другая", "x"] == ("y", None)


def test_a_backup_of_the_first_form_is_restored(tmp_path: Path) -> None:
    content = (SAMPLES / "backup-1" / "vault.backup").read_bytes()
    unpacked = backup.unpack("sample", content, "a sample's passphrase")
    restore.restore(str(tmp_path), unpacked, KeyFile, str(tmp_path / "vault.key"), "now")
    assert held(tmp_path) == json.loads((SAMPLES / "backup-1" / "contents.json").read_text(encoding="utf-8"))
