"""register --script: which interpreter, and what the entry of a script says."""

from __future__ import annotations

import os
import subprocess

import pytest

from cli.lab import script
from support.world import World, sha256_of


def entries(world: World) -> dict[str, dict[str, object]]:
    return {entry["path"]: entry for entry in world.read_policy()["registered_binaries"]}


def test_a_script_is_registered_with_its_interpreter(world: World) -> None:
    path = script(world)
    interpreter = world.installation.interpreter
    answer = world.cli_json("register", "--script", path)
    assert (answer["interpreter"], answer["minimum_grade"]) == (interpreter, "launched")
    entry = entries(world)[path]
    assert entry["interpreter"] == {"path": interpreter, "hash": sha256_of(interpreter)}
    assert (entry["hash"], entry.get("minimum_grade")) == (sha256_of(path), None)
    said = world.cli("register", "--script", path, "--allow-declared").stdout
    assert entries(world)[path]["minimum_grade"] == "declared"
    assert "does not stop a program of yours that forges its command line" in said


def test_a_registered_script_is_served(running: World) -> None:
    code = (
        "from keychain_auth import KeychainAuthClient\nwith KeychainAuthClient() as client:\n    client.check('aws')\n"
    )
    path = script(running, text=f"#!{running.python}\n{code}print('served')\n")
    running.cli_json("register", "--script", path, "--allow-declared", "--interpreter", running.python)
    running.cli_json("authorize", path, "aws")
    process = running.spawn([running.installation.interpreter, path], env=_imports(running))
    assert process.wait() == 0, process.err.text()
    assert process.out.text() == "served"


def _imports(world: World) -> dict[str, str]:
    """How the bare interpreter finds the packages that the world's one has."""
    code = "import sys; print(*[part for part in sys.path if part], sep=':')"
    done = subprocess.run(
        [world.python, "-c", code], env=world.environment(), capture_output=True, check=True, text=True
    )
    return {"PYTHONPATH": done.stdout.strip()}


@pytest.mark.parametrize(
    ("name", "first", "found"),
    [
        ("a", "#!/usr/bin/env sh", "sh"),
        ("a", "#! /usr/bin/env  -S sh -e", "sh"),
        ("a", "#!/usr/bin/env -S LANG=C sh", "sh"),
        ("a", "#!/bin/sh -e", "sh"),
        ("a.sh", "echo no first line of that kind", "sh"),
        ("a.py", "#!/bin/sh", "sh"),
    ],
)
def test_the_interpreter_is_found(world: World, name: str, first: str, found: str) -> None:
    answer = world.cli_json("register", "--script", script(world, name, f"{first}\n"))
    assert answer["interpreter"] == os.path.realpath(f"/bin/{found}")
    assert answer["warnings"] == []


@pytest.mark.parametrize(
    ("name", "first", "why"),
    [
        ("a", "echo hello", "which interpreter"),
        ("a", "#!", "names no interpreter"),
        ("a", "#!/usr/bin/env -i sh", "names no interpreter"),
        ("a", "#!/usr/bin/env no-such-interpreter", "not on your PATH"),
        ("a", "#!/bin/cat", "no interpreter that keychain-auth knows"),
        ("a", '#!/bin/sh\n\'\'\'exec\' "$(dirname "$0")/python" "$0" "$@"', "names no interpreter"),
        ("a", "#!/bin/sh\n'''exec' \"/usr/bin/python3", "names no interpreter"),
    ],
)
def test_an_interpreter_that_cannot_be_told_is_asked_for(world: World, name: str, first: str, why: str) -> None:
    path = script(world, name, f"{first}\n")
    done = world.cli("register", "--script", path)
    assert done.returncode == 2
    assert why in done.stderr
    assert f"Next: keychain-auth register --script {path} --interpreter INTERPRETER" in done.stderr
    assert world.cli("register", "--script", path, "--interpreter", "/bin/sh").returncode == 0


def test_a_version_managers_shim_is_not_an_interpreter(world: World) -> None:
    shim = world.write("bin/python3", '#!/bin/sh\nexec /usr/bin/python3 "$@"\n', mode=0o755)
    path = script(world, "app.py", "#!/usr/bin/env python3\n")
    done = world.cli("register", "--script", path, env={"PATH": f"{os.path.dirname(shim)}:/usr/bin:/bin"})
    assert done.returncode == 2
    assert f"{shim} is a script itself" in done.stderr


def test_a_program_is_no_script(world: World) -> None:
    done = world.cli("register", "--script", world.build_client())
    assert done.returncode == 2
    assert f"Next: keychain-auth register {world.path('bin/talker')}" in done.stderr


def test_flags_that_the_daemon_does_not_accept_get_a_warning(world: World) -> None:
    world.write_settings("")
    path = script(world, "app", f"#!{world.installation.interpreter} -Wdefault\n")
    (warning,) = world.cli_json("register", "--script", path)["warnings"]
    assert "-Wdefault" in warning


def test_a_script_that_others_can_change_gets_a_warning(world: World) -> None:
    world.write_settings("")
    path = script(world, mode=0o777)
    (warning,) = world.cli_json("register", "--script", path)["warnings"]
    assert path in warning
