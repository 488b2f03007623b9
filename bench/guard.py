"""Does a request cost more instructions than it did? Counted, not timed, so that a busy machine does not matter.

Valgrind (callgrind) counts what the daemon's request path (``workload.py``) executes outside of the kernel, from one
mark of the workload to the next. Two counts of the same code differ by less than 1 %. A run takes about 20 s.
``instructions.json`` keeps what was counted last, for each build of Python and of the two libraries that do most of
the work. More than 5 % above it fails; more than 5 % below it asks for a new baseline.

Usage: guard.py [--write]      --write: what is counted now is the baseline for this build
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata

import writing
from workload import CONNECTIONS, MARK

HERE = os.path.dirname(os.path.abspath(__file__))
BASELINE = os.path.join(HERE, "instructions.json")
KINDS = ("read", "ten", "prefix", "connect", *writing.KINDS)
_TURNS = 60
_TOLERANCE = 0.05


def build() -> str:
    """What the counts depend on beside our own code."""
    libraries = " ".join(f"{name} {metadata.version(name)}" for name in ("msgspec", "cryptography"))
    return f"{platform.python_implementation()} {platform.python_version()} {platform.machine()} {libraries}"


def count() -> dict[str, int]:
    """Instructions of one request of each kind. Raises SystemExit with the words of what failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "counted")
        words = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={out}"]
        done = subprocess.run(
            [*words, sys.executable, os.path.join(HERE, "workload.py"), str(_TURNS), *KINDS],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        if done.returncode != 0:
            raise SystemExit(f"guard: {' '.join(done.args)} failed:\n{done.stderr[-2000:]}")
        # A part ends at each mark: the first where the first kind begins, the second where it ends, and so on.
        requests = {"connect": _TURNS} | dict.fromkeys(writing.KINDS, writing.COUNTED)
        each = {kind: requests.get(kind, _TURNS * CONNECTIONS) for kind in KINDS}
        return {kind: _total(f"{out}.{2 * at}") // each[kind] for at, kind in enumerate(KINDS, start=1)}


def _total(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(("summary:", "totals:")))


def main() -> int:
    """Count, compare, say."""
    parser = argparse.ArgumentParser(description="Compare the instructions of a request with what they were.")
    parser.add_argument("--write", action="store_true", help="keep what is counted now as the baseline")
    write = parser.parse_args().write
    if shutil.which("valgrind") is None:
        print("guard: skipped: there is no valgrind here to count instructions (apt-get install valgrind)")
        return 0
    with open(BASELINE, encoding="utf-8") as file:
        baselines: dict[str, dict[str, int]] = json.load(file)
    kept = baselines.get(build())
    if kept is None and not write:
        print(f"guard: skipped: no baseline for {build()} (make guard ARGS=--write makes one)")
        return 0
    counts = count()
    if write:
        baselines[build()] = counts
        with open(BASELINE, "w", encoding="utf-8") as file:
            file.write(json.dumps(baselines, indent=2, sort_keys=True) + "\n")
    worse = False
    for kind, now in counts.items():
        before = now if write or kept is None else kept.get(kind)
        if before is None:
            print(f"guard: {kind:<7} {now:>9,} instructions a request, none kept (make guard ARGS=--write)")
            continue
        change = now / before - 1
        worse = worse or change > _TOLERANCE
        verdict = "MORE" if change > _TOLERANCE else "less: keep it (--write)" if change < -_TOLERANCE else "as before"
        print(f"guard: {kind:<7} {now:>9,} instructions a request, {before:>9,} kept ({change:+.1%}) {verdict}")
    if worse:
        print("guard: what made a request dearer? If it is worth it: make guard ARGS=--write", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
