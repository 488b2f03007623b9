"""Vaults that earlier versions wrote open with this one, and hold what they held (``samples/README.md``)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from vault_lab import contents, opened

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
    assert {"format-1", "format-1-crashed"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_opens_with_everything_in_it(tmp_path: Path, name: str) -> None:
    expected = sample(name, tmp_path)
    assert len(expected) > 10
    assert held(tmp_path) == expected
    assert held(tmp_path) == expected  # and once more, whatever the first opening did to it
