"""The extras of the package, and the table of docs/releasing.md that says what each is for."""

from __future__ import annotations

import os
import re
import tomllib

from docs.test_docs import ROOT, text_of


def test_every_extra_is_in_the_table_and_every_line_of_it_is_an_extra() -> None:
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        offered = set(tomllib.load(file)["project"]["optional-dependencies"])
    told = set(re.findall(r"^\| `([a-z-]+)` \|", text_of("docs/releasing.md"), re.MULTILINE))
    assert told == offered
