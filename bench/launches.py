"""What it costs to launch a script beside starting it: the front, two questions to the daemon, the look before the
first instruction; and a large tree that has to be verified.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterator

from lab import Lab, source
from processes import installed
from report import Row, number, ratios

_FILES = 6000
_IMPORTS = "import socket, json, argparse, logging, urllib.request\n"
_PYTHON = os.path.realpath(sys._base_executable)


def measure(lab: Lab) -> Iterator[Row]:
    """Each beside the same script started by its interpreter, isolated too."""
    yield _beside_plain(lab, "an empty script", "empty.py", "")
    yield _beside_plain(lab, "a script with larger imports", "imports.py", _IMPORTS)
    yield _with_a_tree(lab)


def _beside_plain(lab: Lab, what: str, name: str, text: str) -> Row:
    script = _registered(lab, name, text)
    launched, plain, front = _walls(
        lab, _launch(lab, script), [_PYTHON, "-I", script], [_PYTHON, "-I", "-S", "-c", "pass"]
    )
    more = statistics.median(launched) - statistics.median(plain)
    beside = (
        f"{number(statistics.median(launched))} ms, plain {number(statistics.median(plain))}: {number(more)} more, of "
        f"which {number(statistics.median(front))} a bare python3 -I -S"
    )
    return Row(f"launch of {what}, of python3 -I SCRIPT", ratios(launched, plain), "x", beside=beside)


def _with_a_tree(lab: Lab) -> Row:
    for number_ in range(_FILES):
        path = lab.world.path("bin", "tree", f"package{number_ % 100}", f"module{number_}.py")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"X = {number_}\n" * 50)
    for folder, _, names in os.walk(lab.world.path("bin", "tree")):
        for name in (folder, *(os.path.join(folder, name) for name in names)):
            lab.world.user.own(name)
    without = _registered(lab, "without.py", "")
    beside_tree = _registered(lab, "with.py", "", "--tree", lab.world.path("bin", "tree"))
    ours, bare = _walls(lab, _launch(lab, beside_tree), _launch(lab, without))
    more = [one - other for one, other in zip(ours, bare, strict=True)]
    return Row(f"a tree of {_FILES} files more, remembered hashes", more, "ms")


def _registered(lab: Lab, name: str, text: str, *options: str) -> str:
    script = lab.world.write(f"bin/{name}", text)
    lab.register(script, "--script", "--interpreter", _PYTHON, *options)
    return script


def _launch(lab: Lab, script: str) -> list[str]:
    return [f"{installed(lab)}/keychain-auth", "launch", "--socket", lab.daemon.socket, script]


def _walls(lab: Lab, *programs: list[str]) -> list[list[float]]:
    walls = lab.world.build_client("walls", source=source("walls.c"))
    words = [walls, str(lab.settings.starts)]
    for number_, program in enumerate(programs):
        words += ["--", *program] if number_ else program
    taken: list[list[float]] = json.loads(lab.run(words))
    return taken
