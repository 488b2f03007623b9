"""Changelog fragments: each change brings a small file, and a release gathers them, so that no lines collide.

    python release/changelog.py check
    python release/changelog.py release VERSION DATE

A fragment is ``changes/NAME.KIND.md``: one or more sentences as the changelog shall have them, without a bullet. KIND
is one of those of Keep a Changelog, in lower case. ``release`` puts all of them into CHANGELOG.md under a new heading,
and removes them.

Contract: refuse what is doubtful (a file of another form, an empty one, a version that is there already) before
anything is changed.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KINDS = ("added", "changed", "deprecated", "removed", "fixed", "security")
_NAME = re.compile(rf"[a-z0-9][a-z0-9-]*\.({'|'.join(KINDS)})\.md")
_HEADING = re.compile(r"^## \[(?P<version>[^\]]+)\]", re.MULTILINE)
_WIDTH = 118


class Doubtful(Exception):
    """Something is not of the form that it must have; the text says what, and which would do."""


def read(folder: str) -> dict[str, list[str]]:
    """The fragments by kind, in the order of their names. Raises Doubtful."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        if name == "README.md":
            continue
        fits = _NAME.fullmatch(name)
        if fits is None:
            raise Doubtful(f"{name}: a fragment is called NAME.KIND.md, with a KIND of: {', '.join(KINDS)}")
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            text = " ".join(file.read().split())
        if not text.endswith(".") or text.startswith(("-", "*", "#")):
            raise Doubtful(f"{name}: whole sentences, without a bullet or a heading")
        found.setdefault(fits[1], []).append(text)
    return found


def section(version: str, date: str, fragments: dict[str, list[str]]) -> str:
    """The part of the changelog for a release."""
    parts = [f"## [{version}] - {date}\n"]
    for kind in KINDS:
        if kind in fragments:
            lines = (textwrap.fill(f"- {text}", _WIDTH, subsequent_indent="  ", break_long_words=False,
                                   break_on_hyphens=False) for text in fragments[kind])  # fmt: skip
            parts.append(f"### {kind.capitalize()}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def inserted(changelog: str, version: str, date: str, fragments: dict[str, list[str]]) -> str:
    """The changelog with a section for ``version`` before the last one. Raises Doubtful."""
    if not fragments:
        raise Doubtful("there are no fragments: nothing to release")
    if not re.fullmatch(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?", version) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise Doubtful("a version is 1.2.3, a date 2026-05-21")
    first = _HEADING.search(changelog)
    if first is None:
        raise Doubtful("CHANGELOG.md has no section to stand before")
    if version in (heading["version"] for heading in _HEADING.finditer(changelog)):
        raise Doubtful(f"CHANGELOG.md has a section {version} already")
    return changelog[: first.start()] + section(version, date, fragments) + "\n" + changelog[first.start() :]


def main(words: list[str]) -> int:
    """See above."""
    folder, path = os.path.join(ROOT, "changes"), os.path.join(ROOT, "CHANGELOG.md")
    try:
        fragments = read(folder)
        if words == ["check"]:
            print(f"{sum(map(len, fragments.values()))} fragments, all in order")
            return 0
        if len(words) != 3 or words[0] != "release":
            print(__doc__, file=sys.stderr)
            return 2
        with open(path, encoding="utf-8") as file:
            text = inserted(file.read(), words[1], words[2], fragments)
    except Doubtful as problem:
        print(problem, file=sys.stderr)
        return 1
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)
    for name in os.listdir(folder):
        if name != "README.md":
            os.unlink(os.path.join(folder, name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
