"""What a program pays for the import, and what the package exports."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import keychain_auth

HEAVY = {
    "asyncio", "typing", "dataclasses", "logging", "inspect", "importlib", "ssl", "tempfile", "subprocess", "argparse",
    "msgspec", "cryptography", "click", "rich", "sqlite3", "ctypes", "concurrent", "pathlib", "contextlib",
}  # fmt: skip

LOADED = """
import sys
sys.path.insert(0, {folder!r})
before = set(sys.modules)  # what the interpreter's own start-up loads is not ours
{statement}
print(*sorted(set(sys.modules) - before))
"""


def loaded_by(statement: str) -> set[str]:
    # -S: no site, and so no .pth file of this environment that would load something first. Hence the path by hand.
    folder = str(Path(keychain_auth.__file__).parent.parent)
    program = LOADED.format(folder=folder, statement=statement)
    command = [sys.executable, "-I", "-S", "-c", program]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_the_client_imports_nothing_heavy() -> None:
    loaded = loaded_by("from keychain_auth import KeychainAuthClient")
    assert "keychain_auth.client.sync" in loaded
    assert loaded & HEAVY == set()
    ours = {name for name in loaded - loaded_by("import os, weakref") if not name.startswith("keychain_auth")}
    # Not even json and socket (half of what the first secret would cost): their parts in C do.
    assert ours <= {"__future__", "_json", "_socket", "_struct", "select", "struct", "time"}


def test_the_command_get_imports_less_than_that() -> None:
    loaded = loaded_by("import keychain_auth.cli.main, keychain_auth.cli.fetch")
    ours = {name for name in loaded - loaded_by("import os") if not name.startswith("keychain_auth")}
    assert ours <= {"__future__", "_json", "_socket", "_struct", "errno", "select", "struct", "time"}


def test_the_bare_package_imports_nothing_but_itself() -> None:
    assert loaded_by("import keychain_auth") <= {"keychain_auth", "__future__"}


@pytest.mark.parametrize("name", keychain_auth.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert name in dir(keychain_auth)
    assert getattr(keychain_auth, name) is getattr(keychain_auth, name)


def test_type_checkers_see_the_same_names() -> None:
    stub = ast.parse(Path(keychain_auth.__file__).with_suffix(".pyi").read_text())
    imported = {
        (alias.name, node.module) for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    really = {
        (name, getattr(keychain_auth, name).__module__) for name in keychain_auth.__all__ if name != "__version__"
    }
    assert imported == really


def test_every_error_that_a_client_can_meet_is_exported() -> None:
    def below(error: type) -> set[type]:
        return {error}.union(*map(below, error.__subclasses__()))

    rejections = below(keychain_auth.RequestRejected)
    assert {error.__name__ for error in rejections} <= set(keychain_auth.__all__)
    assert all(issubclass(error, RuntimeError) for error in rejections)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Client'"):
        getattr(keychain_auth, "Client")  # noqa: B009 - a type checker would refuse the short way


def test_the_version_is_that_of_the_distribution() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert keychain_auth.__version__ == tomllib.loads(project.read_text())["project"]["version"]


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(keychain_auth.__file__).parent / "py.typed").is_file()
