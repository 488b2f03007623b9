"""What keychain-auth costs, row by row beside the goals: the table, ``build/bench.json``, ``build/bench.svg``.

Usage: run.py [--quick] [PART…]       --quick: one short round: does it run, not how fast

A part is a module of this folder with a function ``measure(lab) -> Iterable[Row]`` and its name in ``PARTS``. A part
that cannot run here raises ``Skip`` with the reason, which is printed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time

from lab import ROOT, Lab, World, choose_settings, machine
from report import Report, Skip

PARTS = (
    "reads", "connects", "identity", "prefixes", "writes", "growth", "neighbours", "memory", "processes",
    "secret_service", "flood", "launches", "watches",
)  # fmt: skip


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Measure keychain-auth beside doing without it.")
    parser.add_argument("--quick", action="store_true", help="one short round: does it run, not how fast")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these of: {', '.join(PARTS)}")
    words = parser.parse_args()
    unknown = set(words.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    settings = choose_settings(words.quick)
    report = Report(machine(settings))
    began = time.monotonic()
    world = World()
    try:
        lab = Lab(world, settings)
        for part in PARTS:
            if words.parts and part not in words.parts:
                continue
            try:
                report.rows += importlib.import_module(part).measure(lab)
            except Skip as reason:
                report.skipped.append(f"{part}: {reason}")
            print(f"{time.monotonic() - began:6.1f} s  {part}", file=sys.stderr, flush=True)
    finally:
        world.close()
    report.print()
    report.write(os.path.join(ROOT, "build"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
