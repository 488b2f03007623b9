"""Tests that failed among others are tried alone: chance is told from fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import again

STEADY = "def test_steady(): pass\n"
FAULT = "def test_fault(): assert False\n"
# Fails the first time, as on a busy machine; passes each time afterwards.
BUSY = """
from pathlib import Path
def test_busy():
    seen = Path("seen")
    before = seen.exists()
    seen.touch()
    assert before
"""
# Passes one time of two.
SHAKY = """
from pathlib import Path
def test_shaky():
    seen = Path("seen")
    if seen.exists():
        seen.unlink()
    else:
        seen.touch()
        assert False
"""


@pytest.mark.parametrize(
    ("tests", "code", "told"),
    [
        (BUSY, 0, "UNSTEADY"),
        (FAULT, 1, "1 failed"),
        (SHAKY, 1, "Alone, 2 of 3"),
        ("".join(FAULT.replace("fault", f"fault_{n}") for n in range(4)), 1, "4 tests failed"),
        ("import nothing_of_this_name", 2, "error"),
    ],
)
def test_chance_is_told_from_fault(
    tests: str, code: int, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_it.py").write_text(STEADY + tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    first = subprocess.run([sys.executable, "-m", "pytest", "-q"], check=False, cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert first.returncode
    assert again.again(tmp_path) == code
    printed = "".join(capfd.readouterr())
    assert told in printed
    assert "test_steady" not in printed


def test_a_run_without_a_failed_test_is_no_chance(tmp_path: Path) -> None:
    assert again.again(tmp_path) == 1
