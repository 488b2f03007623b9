"""The benchmark's workload follows the daemon's parts: it runs, and counts answers only."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.programs import ROOT

WORKLOAD = os.path.join(ROOT, "bench", "workload.py")


@pytest.mark.parametrize("kind", ["read", "ten", "prefix", "write", "batch", "rows"])
def test_it_runs(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, WORKLOAD, "3", kind], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "µs a request" in done.stdout
