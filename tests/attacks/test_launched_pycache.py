"""Launched scripts: code in a folder named ``__pycache__``, which a survey that skips it by name never sees; in
archives; behind links.

Each attack first wins against the grade declared. Launched, the script is refused while the code is there, and does not
import it if it comes after the start.
"""

from __future__ import annotations

import os
import py_compile
import zipfile

import pytest

from attacks.launch_lab import (
    ASKING,
    EVIL,
    NODE,
    NODE_ASKING,
    NODE_EVIL,
    STARTED,
    declared,
    launch,
    output,
    registered,
    secret_by,
)
from attacks.naive import SECRET
from support.daemon import Daemon
from support.world import World

LOADER = """
import importlib, pkgutil, sys
sys.path.insert(0, __file__.rpartition("/")[0])
import plugins
for found in pkgutil.iter_modules(plugins.__path__):
    importlib.import_module("plugins." + found.name)
"""


def script_of(world: World, text: str, *options: str) -> str:
    """A script, and the folder of its plugins, with a ``__pycache__`` that is older than the registration."""
    world.write("app/plugins/__init__.py", "")
    world.write("app/plugins/__pycache__/__init__.cpython-30.pyc", "")
    path = world.write("app/main.py", text)
    return registered(world, path, "--tree", world.path("app/plugins"), *options)


def put_in(world: World, name: str) -> str:
    """Foreign code in ``__pycache__``: a package, from source or from bytecode."""
    source = world.write("app/plugins/__pycache__/__init__.py", EVIL)
    if name.endswith(".pyc"):
        py_compile.compile(source, source + "c", doraise=True)
        os.unlink(source)
        os.chmod(source + "c", 0o644)
    return world.path(f"app/plugins/__pycache__/{name}")


@pytest.mark.parametrize("name", ["__init__.py", "__init__.pyc"])
def test_pycache_as_a_package(world: World, keeper: Daemon, name: str) -> None:
    script = script_of(world, LOADER + ASKING, "--allow-declared")
    assert secret_by(output(launch(world, script))) == {"honest"}
    put = put_in(world, name)
    assert "evil" in secret_by(output(declared(world, script, interpreter=world.python)))
    said = output(launch(world, script))
    assert SECRET not in said
    assert f"{put} (new)" in said


@pytest.mark.parametrize("name", ["__init__.py", "__init__.pyc"])
def test_pycache_as_a_package_after_the_start(world: World, keeper: Daemon, name: str) -> None:
    """Also if it is gone again before the script connects: it is never run."""
    script = script_of(world, STARTED + LOADER)
    process = launch(world, script)
    process.out.find(lambda line: line == b"started")
    put_in(world, name)
    process.feed(b"\n")
    said = output(process)
    assert secret_by(said) == set()
    assert "lies in a __pycache__ folder" in said
    assert f"keychain-auth upgrade {script}" in said


def test_what_is_put_into_pycache_after_the_start_is_seen(world: World, keeper: Daemon) -> None:
    script = script_of(world, STARTED + ASKING)
    process = launch(world, script)
    process.out.find(lambda line: line == b"started")
    put = put_in(world, "__init__.py")
    process.feed(b"\n")
    assert "identity_not_verified" in output(process)
    assert put in keeper.wait_log("since it was launched this has changed")


def test_a_link_to_pycache(world: World, keeper: Daemon) -> None:
    script = script_of(world, LOADER + ASKING)
    os.symlink("__pycache__", world.path("app/plugins/more"))
    assert "leads to cached bytecode" in output(launch(world, script))
    done = world.cli("upgrade", script)
    assert done.returncode != 0
    assert "leads to cached bytecode" in done.stdout + done.stderr


@pytest.mark.skipif(not os.path.exists(NODE), reason=f"there is no {NODE}")
def test_pycache_of_node(world: World, keeper: Daemon) -> None:
    """For Node it is a folder as any other."""
    world.write("node_modules/helper/index.js", "try { require('./__pycache__'); } catch {}")
    script = world.write("app.js", "require('helper');\n" + NODE_ASKING)
    registered(world, script, "--allow-declared", "--tree", world.path("node_modules"), interpreter=NODE)
    assert secret_by(output(launch(world, script))) == {"honest"}
    world.write("node_modules/helper/__pycache__/index.js", NODE_EVIL)
    assert "evil" in secret_by(output(declared(world, script, interpreter=NODE)))
    said = output(launch(world, script))
    assert SECRET not in said
    assert "__pycache__/index.js (new)" in said


def zipped(world: World, name: str) -> str:
    """An archive with a module that is bytecode: its loader asks for no cached file."""
    source = world.write("work/helper.py", EVIL)
    py_compile.compile(source, source + "c", doraise=True)
    path = world.write(name, "")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(source + "c", "helper.pyc")
    return path


def test_an_archive_outside_of_what_was_registered(world: World, keeper: Daemon) -> None:
    archive = zipped(world, "other/a.zip")
    text = f"import sys\nsys.path.insert(0, {archive!r})\nimport helper\n{ASKING}"
    script = registered(world, world.write("app.py", text), "--allow-declared")
    assert "evil" in secret_by(output(declared(world, script, interpreter=world.python)))
    said = output(launch(world, script))
    assert SECRET not in said
    assert f"{archive} lies outside of what was registered" in said
    registered(world, script, "--tree", os.path.dirname(archive))
    assert "evil" in secret_by(output(launch(world, script)))  # now it was looked at


def test_an_archive_with_the_name_of_cached_bytecode(world: World, keeper: Daemon) -> None:
    name = "app/plugins/__pycache__/a.cpython-30.pyc"
    script = script_of(world, f"import sys\nsys.path.insert(0, {world.path(name)!r})\nimport helper\n{ASKING}")
    zipped(world, name)
    said = output(launch(world, script))
    assert secret_by(said) == set()
    assert "No module named 'helper'" in said  # it is not in the listing, so it is opened as no archive


def test_a_link_that_leads_through_one_outside(world: World, keeper: Daemon) -> None:
    """That one could be changed, and put back once the code has run."""
    os.symlink(os.path.dirname(world.write("lib/real/helper.py", "")), world.path("hop"))
    os.symlink(world.path("hop"), world.path("lib/link"))
    done = world.cli("register", "--script", world.write("app.py", ASKING), "--tree", world.path("lib"))
    assert done.returncode == 1
    assert f"through the link {world.path('hop')}" in done.stderr
