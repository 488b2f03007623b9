"""Tests that failed among others are tried alone: chance is told from fault."""

from __future__ import annotations

import os
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


# A death of what runs it, as by a signal, is a failure of the test that it died in.
DEADLY = """
import os
from pathlib import Path
def test_deadly():
    if not Path("seen").exists():
        Path("seen").touch()
        os._exit(9)
"""
# It says that it cannot be run, once it has failed.
SHY = """
import pytest
from pathlib import Path
def test_shy():
    if Path("seen").exists():
        pytest.skip("no more")
    Path("seen").touch()
    assert False
"""
# Something beside the tests goes wrong: those that come after it are not tried.
INTERRUPTED = """
import pytest
def test_interrupted():
    pytest.exit("enough")
"""
IN_WORKERS = (DEADLY, "import nothing_of_this_name")


@pytest.mark.parametrize(
    ("tests", "code", "told"),
    [
        (BUSY, 0, "UNSTEADY"),
        (FAULT, 1, "1 failed"),
        (SHAKY, 1, "Alone, 2 of 3"),
        ("".join(FAULT.replace("fault", f"fault_{n}") for n in range(4)), 1, "4 tests failed"),
        (DEADLY, 0, "UNSTEADY"),
        (SHY, 1, "no pass"),
        (FAULT + INTERRUPTED, 1, "did not come to its end"),
        ("import nothing_of_this_name", 2, "error"),
    ],
)
def test_chance_is_told_from_fault(
    tests: str, code: int, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_it.py").write_text(STEADY + tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    assert run(tmp_path, *(["--numprocesses=1"] if tests in IN_WORKERS else []))
    assert again.again(tmp_path) == code
    printed = "".join(capfd.readouterr())
    assert told in printed
    assert "test_steady" not in printed


def test_a_run_without_a_failed_test_is_no_chance(tmp_path: Path) -> None:
    assert again.again(tmp_path) == 1
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(STEADY + FAULT)
    assert run(tmp_path) == 1
    (tmp_path / "test_it.py").write_text(STEADY)
    assert run(tmp_path) == 0  # and what an earlier run noted as failed is there still
    assert again.again(tmp_path) == 1


def run(folder: Path, *options: str) -> int:
    env = {**os.environ, "PYTHONPATH": os.path.dirname(again.__file__)}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "again", *options]
    return subprocess.run(words, check=False, cwd=folder, env=env, stdout=subprocess.DEVNULL).returncode
