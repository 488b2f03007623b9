"""What a whole process pays: ``keychain-auth get``, the client library in a fresh program, the start of the daemon.

The package is installed as a user would: built into a wheel, put by pip into a virtual environment of its own, with the
entry script that pip makes.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from lab import READ, ROOT, SERVICE, SUCCESS, Lab, name, pinned, source
from report import Row, Skip, number, ratios

_TARGET = name(4275)
_TIMED = """import time
began = time.perf_counter_ns()
{work}
print(time.perf_counter_ns() - began)
"""
_FLOOR = _TIMED.format(work="import socket, json")
_CLIENT = _TIMED.format(
    work=f"from keychain_auth import KeychainAuthClient\nassert KeychainAuthClient().get({SERVICE!r}, {_TARGET!r})"
)


@functools.lru_cache(maxsize=1)
def installed(lab: Lab) -> str:
    """The folder of commands of a virtual environment that holds the package, as pip leaves it."""
    folder, wheels = lab.world.path("venv"), lab.world.path("wheels")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _run([sys._base_executable, "-m", "venv", "--without-pip", folder])
    _run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", wheels, ROOT])
    built = os.path.join(wheels, os.listdir(wheels)[0])
    _run([*pip, "--python", f"{folder}/bin/python", "install", "--no-deps", "--no-index", built])
    return os.path.join(folder, "bin")


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skip(f"{' '.join(words)}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")


def get(lab: Lab) -> Iterator[Row]:
    """The command, beside a bare interpreter."""
    words = [f"{installed(lab)}/keychain-auth", "get", SERVICE, _TARGET, "--socket", lab.daemon.socket]
    bare = [os.path.realpath(sys._base_executable), "-I", "-S", "-c", "pass"]
    walls = lab.world.build_client("walls", source=source("walls.c"))
    ours, floor = json.loads(lab.run([walls, str(lab.settings.starts), *words, "--", *bare]))
    beside = f"{number(statistics.median(ours))} ms, python {number(statistics.median(floor))} ms"
    yield Row("keychain-auth get, of python3 -I -S -c pass", ratios(ours, floor), "x", 2.0, beside=beside)


def client(lab: Lab) -> Iterator[Row]:
    """In the process, so that the start of the interpreter, which both have, hides nothing."""
    python = f"{installed(lab)}/python"
    program, floor = lab.world.write("bin/client.py", _CLIENT), lab.world.write("bin/floor.py", _FLOOR)
    lab.register(program, "--interpreter", python, "--script", "--allow-declared")
    ours, bare = [], []
    for turn in range(lab.settings.starts + 1):
        for script, taken in ((program, ours), (floor, bare)):
            said = lab.run([python, "-I", script])
            if turn:  # the first one compiles, and is hashed
                taken.append(int(said) / 1e6)
    beside = f"{number(statistics.median(ours))} ms, the imports {number(statistics.median(bare))} ms"
    yield Row("client: import, connect, get, of import socket, json", ratios(ours, bare), "x", 1.5, beside=beside)


def start(lab: Lab) -> Iterator[Row]:
    """From the first instruction of the interpreter to an answer that a registered program has in its hands."""
    python = [lab.world.python, "-c", "pass"]
    imports = [lab.world.python, "-c", "import keychain_auth.daemon.app"]
    ours, floor, imported, listening = [], [], [], []
    for _ in range(max(3, lab.settings.starts // 4)):
        floor.append(_milliseconds(lab, python))
        imported.append(_milliseconds(lab, imports))
        lab.daemon.process.stop()
        began = time.perf_counter()
        lab.launch().wait_ready()
        listening.append((time.perf_counter() - began) * 1e3)
        if not lab.ask(READ).startswith(SUCCESS.encode()):
            raise SystemExit("the fresh daemon did not answer")
        ours.append((time.perf_counter() - began) * 1e3)
    middle = [statistics.median(values) for values in (ours, floor, imported, listening)]
    beside = (
        f"{number(middle[0])} ms: python {number(middle[1])}, imports {number(middle[2] - middle[1])}, "
        f"open and listen {number(middle[3] - middle[2])}, first answer {number(middle[0] - middle[3])}"
    )
    what = "start to first answer, 10,000 stored, of python3 -c pass"
    yield Row(what, ratios(ours, floor), "x", 15.0, beside=beside)


def _milliseconds(lab: Lab, words: list[str]) -> float:
    with pinned(lab.settings.server_cpu):
        began = time.perf_counter()
        process = lab.world.spawn(words)
        code = process.wait()
    taken = (time.perf_counter() - began) * 1e3
    process.close()
    if code != 0:
        raise SystemExit(f"{words} ended with {code}")
    return taken
