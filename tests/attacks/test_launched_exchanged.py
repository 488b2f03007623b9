"""Launched scripts: a folder above what they import is exchanged after the start, and put back before they connect.

A tree is looked at by its path, and then it is the same before and after. Whoever only looks at files sees nothing: the
attack wins against the grade declared, and leaves no trace in the tree. Launched, code is compiled only if its bytes
are those that were registered.
"""

from __future__ import annotations

import colorsys
import os
import py_compile
import zipfile
from collections.abc import Callable

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
from keychain_auth.platform.linux import tree
from support.daemon import Daemon
from support.process import Process
from support.world import World


def source(world: World, folder: str, code: str) -> str:
    world.write(f"{folder}/helper.py", code)
    return "import helper\n"


def package(world: World, folder: str, code: str) -> str:
    world.write(f"{folder}/helper/__init__.py", "")
    world.write(f"{folder}/helper/part.py", code)
    return "import helper.part\n"


def link(world: World, folder: str, code: str) -> str:
    world.write(f"{folder}/real/helper.py", code)
    os.symlink("real/helper.py", world.path(folder, "helper.py"))
    return "import helper\n"


def bytecode(world: World, folder: str, code: str) -> str:
    path = world.write(f"{folder}/helper.py", code)
    py_compile.compile(path, path + "c", doraise=True)
    os.chmod(path + "c", 0o644)
    os.unlink(path)
    return "import helper\n"


def archive(world: World, folder: str, code: str) -> str:
    with zipfile.ZipFile(world.write(f"{folder}/a.zip", ""), "w") as made:
        made.writestr("helper.py", code)
    return "sys.path.insert(0, sys.path[0] + '/a.zip')\nimport helper\n"


def path_file(world: World, folder: str, code: str) -> str:
    world.write(f"{folder}/helper.pth", f"import sys; exec({code!r})\n")
    return "import site\nsite.addsitedir(sys.path[0])\n"


def by_path(world: World, folder: str, code: str) -> str:
    world.write(f"{folder}/helper.py", code)
    return "import runpy\nrunpy.run_path(sys.path[0] + '/helper.py')\n"


@pytest.mark.parametrize("kind", [source, package, link, bytecode, archive, path_file, by_path])
def test_a_folder_above_the_tree_is_exchanged_and_put_back(
    world: World, keeper: Daemon, kind: Callable[[World, str, str], str]
) -> None:
    path, aside, foreign = _places(world)
    put_back = f"import os\nos.rename({path!r}, {foreign!r})\nos.rename({aside!r}, {path!r})\n"
    load = kind(world, "app/lib", "X = 1\n")
    kind(world, "foreign/lib", put_back + EVIL)
    text = f"{STARTED}import sys\nsys.path.insert(0, {world.path('app/lib')!r})\n{load}{ASKING}"
    script = registered(world, world.write("main.py", text), "--tree", world.path("app/lib"), "--allow-declared")

    before = tree.survey(world.path("app/lib"), python=True)
    assert "evil" in secret_by(_exchanged(world, declared(world, script, interpreter=world.python)))
    assert tree.changed(world.path("app/lib"), before, python=True) == (), "who looks at the tree sees nothing"

    said = _exchanged(world, launch(world, script))
    assert secret_by(said) == set()
    assert "is not what was registered with" in said or "No module named 'helper'" in said
    os.rename(path, foreign)
    os.rename(aside, path)
    process = launch(world, script)
    process.feed(b"\n")
    assert secret_by(output(process)) == {"honest"}


@pytest.mark.skipif(not os.path.exists(NODE), reason=f"there is no {NODE}")
def test_a_folder_above_the_modules_of_node_is_exchanged_and_put_back(world: World, keeper: Daemon) -> None:
    path, aside, foreign = _places(world)
    put_back = f"const fs = require('fs');fs.renameSync({path!r}, {foreign!r});fs.renameSync({aside!r}, {path!r});\n"
    world.write("app/node_modules/helper/index.js", "exports.x = 1;")
    world.write("foreign/node_modules/helper/index.js", put_back + NODE_EVIL)
    text = (
        "console.log('started');\nprocess.stdin.once('data', () => {\n"
        f"  require({world.path('app/node_modules/helper')!r});\n  process.stdin.pause();\n{NODE_ASKING}}});\n"
    )
    script = world.write("main.js", text)
    registered(world, script, "--tree", world.path("app/node_modules"), "--allow-declared", interpreter=NODE)
    before = tree.survey(world.path("app/node_modules"), python=False)

    assert "evil" in secret_by(_exchanged(world, declared(world, script, interpreter=NODE)))
    assert tree.changed(world.path("app/node_modules"), before, python=False) == ()
    said = _exchanged(world, launch(world, script))
    assert secret_by(said) == set()
    assert "is not what was registered with" in said
    os.rename(path, foreign)
    os.rename(aside, path)
    process = launch(world, script)
    process.feed(b"\n")
    assert secret_by(output(process)) == {"honest"}


def test_a_file_that_the_tree_never_had(world: World, keeper: Daemon) -> None:
    """The folder in its place has the right files, and one more that is found before them."""
    world.write("app/lib/helper.py", "X = 1\n")
    world.write("foreign/lib/helper.py", "X = 1\n")
    world.write("foreign/lib/helper/__init__.py", EVIL)
    text = f"{STARTED}import sys\nsys.path.insert(0, {world.path('app/lib')!r})\nimport helper\n{ASKING}"
    script = registered(world, world.write("main.py", text), "--tree", world.path("app/lib"))
    said = _exchanged(world, launch(world, script))
    assert secret_by(said) == set()
    assert f"{world.path('app/lib/helper/__init__.py')} is not what was registered" in said


def test_data_below_a_tree_is_read_as_ever(world: World, keeper: Daemon) -> None:
    world.write("app/lib/helper/__init__.py", "")
    world.write("app/lib/helper/words.txt", "as it was")
    os.symlink("/usr/share", world.path("app/lib/helper/shared"))
    os.symlink(colorsys.__file__, world.path("app/lib/helper/colours.py"))  # root's
    text = (
        f"import pkgutil, sys\nsys.path.insert(0, {world.path('app/lib')!r})\n"
        "print(pkgutil.get_data('helper', 'words.txt').decode())\n"
        "import helper.colours\nimport os, json\nprint(len(os.listdir(sys.path[0] + '/helper/shared')) > 3)\n" + ASKING
    )
    script = registered(world, world.write("main.py", text), "--tree", world.path("app/lib"))
    said = output(launch(world, script))
    assert said.startswith("as it was\nTrue\n")
    assert secret_by(said) == {"honest"}


def _places(world: World) -> list[str]:
    """Where the folder belongs, where it is put aside, and where the foreign one lies."""
    return [world.path(name) for name in ("app", "aside", "foreign")]


def _exchanged(world: World, process: Process) -> str:
    """What the started script says once another folder is in the place of its own."""
    path, aside, foreign = _places(world)
    process.out.find(lambda line: line == b"started")
    os.rename(path, aside)
    os.rename(foreign, path)
    process.feed(b"\n")
    return output(process)
