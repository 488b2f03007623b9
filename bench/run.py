"""What keychain-auth costs, row by row beside the goals: the table, ``build/bench.json``, ``build/bench.svg``.

Usage: run.py [--quick] [PART…]       --quick: one short round: does it run, not how fast
                                      PART: only these; "all": those that are not measured unless they are named too

A part is a function of a module of this folder that takes the lab and yields rows. A part that cannot run here raises
``Skip`` with the reason, which is printed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time

from lab import ROOT, Lab, World, choose_settings, machine
from report import Report, Skip

GOALS = {
    "exact": "reads:kept", "one": "reads:one", "connect": "connects:measure", "prefix": "prefixes:measure",
    "write": "writes:measure", "ten": "reads:ten", "get": "processes:get", "client": "processes:client",
    "start": "processes:start", "memory": "memory:measure", "prefix-neighbour": "neighbours:prefix_reads",
    "refused-neighbours": "neighbours:refused",
    "write-neighbour": "neighbours:writes", "keyring": "secret_service:measure",
}  # fmt: skip
"""What the goals of speed are about, in their order; together less than 5 minutes."""
MORE = {
    "identity": "identity:measure", "growth": "growth:measure", "flood": "flood:measure",
    "launches": "launches:measure", "watches": "watches:measure",
}  # fmt: skip
"""What was measured to understand one room, and takes minutes of its own."""
PARTS = GOALS | MORE


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Measure keychain-auth beside doing without it.")
    parser.add_argument("--quick", action="store_true", help="one short round: does it run, not how fast")
    known = f"{', '.join(GOALS)}; and only if named: {', '.join(MORE)}, or all"
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these of: {known}")
    words = parser.parse_args()
    unknown = set(words.parts) - set(PARTS) - {"all"}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are: {known}")
    wanted = set(PARTS) if "all" in words.parts else set(words.parts or GOALS)
    settings = choose_settings(words.quick)
    report = Report(machine(settings))
    began = time.monotonic()
    world = World()
    try:
        lab = Lab(world, settings)
        for part in (part for part in PARTS if part in wanted):
            module, function = PARTS[part].split(":")
            try:
                report.rows += getattr(importlib.import_module(module), function)(lab)
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
