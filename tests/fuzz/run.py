"""Fuzz all targets in turns, for long: run.py [--minutes N] [--seed N] [TARGET…]

A find is written to build/fuzz/TARGET-N and the run goes on; the exit code is 1 if there was any. To keep one as a
regression test, mend the code and move it to tests/fuzz/finds/TARGET/.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))

from fuzz.engine import Find, Fuzzer  # noqa: E402
from fuzz.file_targets import FILE_TARGETS  # noqa: E402
from fuzz.helper_targets import HELPER_TARGETS  # noqa: E402
from fuzz.text_targets import TEXT_TARGETS  # noqa: E402

_TURN = 10.0  # seconds


def main() -> int:
    """Fuzz, say what was found."""
    parser = argparse.ArgumentParser(description="Fuzz what reads bytes of others.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("targets", nargs="*")
    asked = parser.parse_args()
    known = (*TEXT_TARGETS, *FILE_TARGETS, *HELPER_TARGETS)
    chosen = [each for each in known if not asked.targets or each.name in asked.targets]
    print(f"seed {asked.seed}, {asked.minutes:g} minutes for {len(chosen)} targets", flush=True)
    fuzzers = [Fuzzer(target, asked.seed) for target in chosen]
    end = time.monotonic() + asked.minutes * 60
    finds: set[str] = set()
    while time.monotonic() < end:
        for fuzzer in fuzzers:
            try:
                fuzzer.run(min(_TURN, max(0.1, end - time.monotonic())))
            except Find as find:
                finds |= _keep(find)
    for fuzzer in fuzzers:
        print(f"{fuzzer.target.name:<14}{fuzzer.tries:>12,} inputs {len(fuzzer.lines):>6} lines")
    print(f"{len(finds)} finds", flush=True)
    return 1 if finds else 0


def _keep(find: Find) -> set[str]:
    """Write the find down, once for each place where it happens."""
    cause = find.__cause__
    place = traceback.extract_tb(cause.__traceback__)[-1] if cause is not None else None
    mark = hashlib.sha256(f"{find.target} {place and (place.filename, place.lineno)}".encode()).hexdigest()[:8]
    name = f"{find.target}-{mark}"
    folder = os.path.join(ROOT, "build", "fuzz")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.write(find.data)
        print(f"FIND {find} -> {path}", flush=True)
        traceback.print_exception(cause)
    return {name}


if __name__ == "__main__":
    sys.exit(main())
