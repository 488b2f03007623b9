"""What runs on Windows, run by a Windows Python, under Wine.

Each group is one run of pytest over there; a failure there is a failure here, with its report. Whatever a group skips
over there is printed with its reason, as everywhere. Where Wine cannot be had, the whole file is skipped.

What it does not promise: that Windows does as Wine does (``setup.py``). The same tests run on a Windows without Wine:
``python tests/windows/groups.py``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

import pytest

if sys.platform == "win32":
    pytest.skip("this is Windows: its tests are run directly", allow_module_level=True)

import setup
from groups import GROUPS, LONG, OPTIONS
from wine import Wine

_SECONDS = 420  # on a machine that does much else; alone, the longest group takes a tenth of it


@pytest.fixture(scope="module")
def windows() -> Iterator[Wine]:
    try:
        made = Wine()
    except setup.Unavailable as why:
        pytest.skip(f"no Windows here: {why}")
    with made:
        yield made


@pytest.mark.parametrize("group", GROUPS)
def test_on_windows(windows: Wine, group: str, capsys: pytest.CaptureFixture[str]) -> None:
    if group in LONG and not os.environ.get("WINDOWS"):
        pytest.skip(f"make windows runs {group!r} under Wine: it takes longer than make test has")
    paths, least = GROUPS[group]
    env = {"HYPOTHESIS_PROFILE": "brief"}
    done = windows.run("-m", "pytest", *OPTIONS, *paths, env=env, timeout=_SECONDS)
    report = done.stdout + done.stderr
    assert done.returncode == 0, f"pytest on Windows ended with {done.returncode}:\n{report}"
    for line in report.splitlines():
        if line.startswith("SKIPPED"):
            with capsys.disabled():
                print(f"\non Windows: {line}")
    passed = re.search(r"(\d+) passed", report)
    assert passed and int(passed[1]) >= least, report
