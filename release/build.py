"""Builds the wheel and the sdist twice, from two copies that differ in all that must not matter, and compares.

    python release/build.py OUT

Contract: OUT holds the same bytes whoever builds the same commit, and when: times, modes, the order in which a folder
lists its files and the place of the copy do not reach them. SOURCE_DATE_EPOCH (seconds) says the time in them; without
it that of the last release in the changelog does. Exit code 1 if two builds differ; then OUT gets nothing.
"""

from __future__ import annotations

import calendar
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_DATED = re.compile(r"^## \[[^\]]+\] - (\d{4})-(\d{2})-(\d{2})$", re.MULTILINE)
_FIRST = (2026, 1, 1)  # before there is any release


def main(words: list[str]) -> int:
    """See above."""
    if len(words) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    out = os.path.abspath(words[0])
    os.makedirs(out, exist_ok=True)
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or str(epoch_of(_read(os.path.join(ROOT, "CHANGELOG.md"))))
    with tempfile.TemporaryDirectory() as folder:
        first, second = (build(os.path.join(folder, name), epoch, odd=name == "b") for name in ("a", "b"))
        if first.keys() != second.keys() or any(first[name] != second[name] for name in first):
            print("two builds of the same sources differ: " + ", ".join(sorted(first | second)), file=sys.stderr)
            return 1
        for name, content in first.items():
            with open(os.path.join(out, name), "wb") as file:
                file.write(content)
            print(f"{hashlib.sha256(content).hexdigest()}  {name}")
    return 0


def build(folder: str, epoch: str, *, odd: bool) -> dict[str, bytes]:
    """Name to content of what one build makes. ``odd``: from files with other times, modes and order."""
    sources = os.path.join(folder, "somewhere else" if odd else "here")
    copy(sources, odd=odd)
    out = os.path.join(folder, "out")
    env = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "TZ": "Asia/Kathmandu" if odd else "UTC", "LC_ALL": "C.UTF-8"}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", out], cwd=sources, env=env, check=True,
        stdout=subprocess.DEVNULL, umask=0o077 if odd else 0o022,
    )  # fmt: skip
    found = {}
    for name in sorted(os.listdir(out)):
        with open(os.path.join(out, name), "rb") as file:
            found[name] = file.read()
    return found


def copy(target: str, *, odd: bool) -> None:
    """The sources, without what commands left in them."""
    os.makedirs(target)
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        wanted = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    # What the sdist is made from, and nothing that lies around beside it.
    kept = {os.path.relpath(path, ROOT) for pattern in wanted for path in glob.glob(os.path.join(ROOT, pattern))}
    names = kept | {"pyproject.toml", ".gitignore"}
    for name in sorted(names, reverse=odd):
        path = os.path.join(ROOT, name)
        if os.path.isdir(path):
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
            shutil.copytree(path, os.path.join(target, name), ignore=ignored)
        else:
            shutil.copy2(path, os.path.join(target, name))
    for folder, _, files in os.walk(target):
        for name in files:
            path = os.path.join(folder, name)
            runs = os.stat(path).st_mode & 0o100
            os.chmod(path, (0o700 if runs else 0o600) if odd else (0o755 if runs else 0o644))
            if odd:
                os.utime(path, (time.time(), 12345))


def epoch_of(changelog: str) -> int:
    """Midnight (UTC) of the last release in the changelog."""
    dated = _DATED.search(changelog)
    year, month, day = map(int, dated.groups()) if dated else _FIRST
    return calendar.timegm((year, month, day, 0, 0, 0))


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
