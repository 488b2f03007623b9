"""The shipped scripts: each is installed, documented, and the same few lines."""

from __future__ import annotations

import ast
import os
import re
import tomllib

import pytest

from integrations.lab import SCRIPTS
from support.programs import ROOT

NAMES = sorted(name for name in os.listdir(SCRIPTS) if name != "keychain-auth")


def test_every_script_is_installed_under_its_own_name() -> None:
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        told = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-scripts"]
    assert told == {f"scripts/{name}": name for name in sorted(os.listdir(SCRIPTS))}


@pytest.mark.parametrize("name", NAMES)
def test_a_script_does_nothing_but_start_its_helper(name: str) -> None:
    path = os.path.join(SCRIPTS, name)
    assert os.access(path, os.X_OK)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    found = re.fullmatch(
        r"#!python\nimport sys\n\nfrom keychain_auth\.integrations\.base import start\n\n"
        r'sys\.exit\(start\(__file__, "(\w+)"\)\)\n',
        text,
    )
    assert found, text
    module = os.path.join(ROOT, "src", "keychain_auth", "integrations", f"{found[1]}.py")
    with open(module, encoding="utf-8") as file:
        defined = {node.name for node in ast.parse(file.read()).body if isinstance(node, ast.FunctionDef)}
    assert "main" in defined


@pytest.mark.parametrize("name", NAMES)
def test_a_helper_has_a_page(name: str) -> None:
    with open(os.path.join(ROOT, "docs", "integrations.md"), encoding="utf-8") as file:
        [row] = [line for line in file if line.startswith("|") and f"`{name}`" in line]
    [page] = set(re.findall(r"\(((?:integrations/)?\w+\.md)", row))
    with open(os.path.join(ROOT, "docs", page), encoding="utf-8") as file:
        text = file.read()
    assert f'$ keychain-auth register --app "$(command -v {name})"\n' in text
    assert re.search(rf'^\$ keychain-auth authorize "\$\(command -v {name}\)" ', text, re.MULTILINE)
