"""docs/architecture.md names files that are there, and every folder that is."""

from __future__ import annotations

import os
import re

import pytest

from docs.test_docs import ROOT

PAGE = os.path.join(ROOT, "docs", "architecture.md")
PACKAGE = os.path.join(ROOT, "src", "keychain_auth")


def text() -> str:
    with open(PAGE, encoding="utf-8") as file:
        return file.read()


def folders() -> list[str]:
    found = []
    for place, names, files in os.walk(PACKAGE):
        names[:] = [name for name in names if name != "__pycache__"]
        if "__init__.py" in files and place != PACKAGE:
            found.append(os.path.relpath(place, PACKAGE))
    return sorted(found)


@pytest.mark.parametrize("folder", folders())
def test_every_folder_is_named(folder: str) -> None:
    name = folder.rpartition("/")[2]
    assert re.search(rf"`(?:{re.escape(folder)}|{re.escape(name)})/?`", text()), f"{folder} is not in architecture.md"


def test_every_path_is_there() -> None:
    named = {path for path in re.findall(r"`([\w/.]+/[\w.]*)`", text()) if not path.startswith("/")}
    assert len(named) > 60
    missing = [path for path in named if not any(os.path.exists(os.path.join(at, path)) for at in (PACKAGE, ROOT))]
    assert missing == []


def test_a_file_named_in_the_row_of_a_folder_is_in_it() -> None:
    """Rows of the tables begin with a folder; a bare file name in such a row is a file of one of its folders."""
    wrong = []
    for row in re.findall(r"^\| (`.*)$", text(), re.MULTILINE):
        first, _, rest = row.partition(" | ")
        places = [path for path in re.findall(r"`([\w/]+)/?`", first) if os.path.isdir(os.path.join(PACKAGE, path))]
        for name in re.findall(r"`(\w+\.py)`", rest) if places else ():
            if not any(os.path.exists(os.path.join(PACKAGE, place, name)) for place in (*places, "")):
                wrong.append(f"{name} in the row of {first}")
    assert wrong == []


# Files of a user's that are called like a room, and what is in it.
NO_MODULES = {"audit.head", "audit.log", "daemon.toml", "daemon.log"}


def test_modules_that_comments_name_are_there() -> None:
    """``room.module`` in a docstring leads on: to a file of that room."""
    wrong = []
    for folder in ("", *folders()):
        for file in sorted(os.listdir(os.path.join(PACKAGE, folder))):
            if not file.endswith(".py"):
                continue
            with open(os.path.join(PACKAGE, folder, file), encoding="utf-8") as lines:
                named = set(re.findall(r"``([a-z_]+)\.([a-z_]+)\b[\w.]*``", lines.read()))
            for room, module in named:
                at = os.path.join(PACKAGE, room)
                there = os.path.isdir(os.path.join(at, module)) or os.path.exists(os.path.join(at, f"{module}.py"))
                if os.path.isdir(at) and f"{room}.{module}" not in NO_MODULES and not there:
                    wrong.append(f"{folder}/{file}: {room}.{module}")
    assert wrong == []
