"""Launched scripts: code that somebody puts where an interpreter looks.

Each attack first wins against the grade declared: the foreign code runs inside the registered script, and gets the
secret. Launched, the script does not load it, or is not started at all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from attacks.lab import build_library
from attacks.launch_lab import (
    ASK,
    ASKING,
    EVIL,
    NODE,
    NODE_ASKING,
    NODE_EVIL,
    declared,
    forged_bytecode,
    launch,
    output,
    registered,
    secret_by,
)
from attacks.naive import SECRET
from support.daemon import Daemon
from support.lines import until
from support.world import World

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
USER_SITE = f".local/lib/{VERSION}/site-packages"


def python_path(world: World) -> dict[str, str]:
    return {"PYTHONPATH": os.path.dirname(world.write("evil/sitecustomize.py", EVIL))}


def user_customize(world: World) -> dict[str, str]:
    world.write(f"{USER_SITE}/usercustomize.py", EVIL)
    return {}


def path_file(world: World) -> dict[str, str]:
    world.write(f"{USER_SITE}/evil.pth", f"import sys; exec({EVIL!r})\n")
    return {}


def sibling(world: World) -> dict[str, str]:
    world.write("json.py", EVIL)
    return {}


def preloaded(world: World) -> dict[str, str]:
    return {"LD_PRELOAD": build_library(world, "preload")}


@pytest.mark.parametrize("attack", [python_path, user_customize, path_file, sibling, preloaded])
def test_code_where_python_looks(world: World, keeper: Daemon, attack: Callable[[World], dict[str, str]]) -> None:
    script = registered(world, world.write("app.py", "import json\n" + ASKING), "--allow-declared")
    env = attack(world)
    assert "evil" in secret_by(output(declared(world, script, env=env)))
    registered(world, script, "--minimum-grade", "launched")
    assert "evil" not in secret_by(output(declared(world, script, env=env)))
    assert secret_by(output(launch(world, script, env=env))) == {"honest"}


def test_forged_bytecode(world: World, keeper: Daemon) -> None:
    helper = world.write("lib/helper.py", "X = 1\n")
    lib = os.path.dirname(helper)
    text = f"import sys\nsys.path.insert(0, {lib!r})\nimport helper\n{ASKING}"
    script = registered(world, world.write("app.py", text), "--tree", lib, "--allow-declared")
    path, code = forged_bytecode(helper, EVIL)
    world.write(os.path.relpath(path, world.home), code)
    assert "evil" in secret_by(output(declared(world, script)))
    assert secret_by(output(launch(world, script))) == {"honest"}
    with open(path, "rb") as file:  # neither read nor replaced
        assert file.read() == code


def test_a_module_outside_of_what_was_registered_is_not_imported(world: World, keeper: Daemon) -> None:
    helper = world.write("lib/helper.py", EVIL)
    text = f"import sys\nsys.path.insert(0, {os.path.dirname(helper)!r})\nimport helper\n{ASKING}"
    script = registered(world, world.write("app.py", text), "--allow-declared")
    assert secret_by(output(declared(world, script))) == {"evil", "honest"}
    said = output(launch(world, script))
    assert SECRET not in said
    assert f"keychain-auth register --script {script} --tree {os.path.dirname(helper)}" in said


def test_a_changed_module_is_named_until_the_upgrade(world: World, keeper: Daemon) -> None:
    helper = world.write("lib/helper.py", "X = 1\n")
    script = registered(world, world.write("app.py", "import helper\n" + ASKING), "--tree", os.path.dirname(helper))
    assert secret_by(output(launch(world, script))) == {"honest"}
    world.write("lib/helper.py", EVIL)
    world.write("lib/more.py", "")
    process = launch(world, script)
    said = output(process)
    assert process.returncode == 3
    assert f"{helper} (changed), {world.path('lib/more.py')} (new)" in said
    assert f"Next: keychain-auth upgrade {script}" in said
    assert f"{helper} (changed)" in keeper.wait_log("launch refused")
    world.write("lib/helper.py", "X = 2\n")
    assert world.cli("upgrade", script).returncode == 0
    said = output(launch(world, script))
    assert secret_by(said) == {"honest"}, (said, keeper.log)


WAITING = "print('started', flush=True)\ninput()\n"


def test_a_module_changed_and_put_back_after_the_start(world: World, keeper: Daemon) -> None:
    """Nobody can set a ctime back."""
    helper = world.write("lib/helper.py", "X = 1\n")
    lib = os.path.dirname(helper)
    script = registered(world, world.write("app.py", WAITING + "import helper\n" + ASKING), "--tree", lib)
    process = launch(world, script)
    process.out.find(lambda line: line == b"started")
    about = os.stat(helper)
    world.write("lib/helper.py", EVIL)
    world.write("lib/helper.py", "X = 1\n")
    os.utime(helper, ns=(about.st_atime_ns, about.st_mtime_ns))
    process.feed(b"\n")
    assert "identity_not_verified" in output(process)
    assert helper in keeper.wait_log("since it was launched this has changed")


def test_a_module_put_in_and_taken_out_again_after_the_start(world: World, keeper: Daemon) -> None:
    lib = os.path.dirname(world.write("lib/helper.py", "X = 1\n"))
    script = registered(world, world.write("app.py", WAITING + "import helper\n" + ASKING), "--tree", lib)
    process = launch(world, script)
    process.out.find(lambda line: line == b"started")
    os.unlink(world.write("lib/json.py", EVIL))
    process.feed(b"\n")
    assert "identity_not_verified" in output(process)


def test_the_script_is_swapped_before_and_put_back_after_the_start(world: World, keeper: Daemon) -> None:
    script = registered(world, world.write("app.py", ASKING), "--allow-declared")
    for start in (declared, launch):
        world.write("app.py", WAITING + EVIL)
        process = start(world, script)
        if start is declared:
            process.out.find(lambda line: line == b"started")
            world.write("app.py", ASKING)
            process.feed(b"\n")
            assert secret_by(output(process)) == {"evil"}
        else:
            assert f"{script} is not what was registered" in output(process)


def test_the_script_is_swapped_while_it_is_started(world: World, keeper: Daemon) -> None:
    """What runs is the memory that was looked at, not the file."""
    script = registered(world, world.write("app.py", ASKING))
    with open(os.path.join(HERE, "front.py"), encoding="utf-8") as file:
        front = world.write("front.py", file.read())
    held = world.spawn([world.python, front, "held", script], env={"KEYCHAIN_AUTH_SOCKET": world.socket})
    held.out.find(lambda line: line == b"held")
    world.write("app.py", EVIL)
    held.feed(b"\n")
    assert secret_by(output(held)) == {"honest"}


def test_a_link_that_leads_out_of_the_tree_is_refused(world: World, keeper: Daemon) -> None:
    os.symlink(os.path.dirname(world.write("elsewhere/x.py", "")), world.path("lib"))
    os.unlink(world.path("lib"))
    world.write("lib/helper.py", "")
    os.symlink(world.path("elsewhere"), world.path("lib/link"))
    script = world.write("app.py", ASKING)
    done = world.cli("register", "--script", script, "--tree", world.path("lib"))
    assert done.returncode == 1
    assert f"the link {world.path('lib/link')} leads out of the tree" in done.stderr


@pytest.fixture
def venv(world: World) -> str:
    """A virtual environment of the user, with a package and the command that runs it."""
    python = world.installation.interpreter
    subprocess.run([python, "-m", "venv", "--without-pip", world.path("venv")], check=True, **world.user.popen())
    world.write(f"venv/lib/{VERSION}/site-packages/tool/__init__.py", f"def main():\n exec({ASKING!r})\n")
    text = f"#!{world.path('venv/bin/python')}\nimport sys\nfrom tool import main\nprint(sys.prefix)\nmain()\n"
    return world.write("venv/bin/tool", text, 0o755)


def test_an_app_of_a_virtual_environment(world: World, keeper: Daemon, venv: str) -> None:
    assert world.cli("register", "--app", venv).returncode == 0
    world.cli("authorize", venv, "aws")
    said = output(launch(world, venv))
    assert secret_by(said) == {"honest"}
    assert world.path("venv") in said.splitlines()
    world.write(f"venv/lib/{VERSION}/site-packages/evil.pth", f"import sys; exec({EVIL!r})\n")
    checked = world.cli("check", venv)
    assert checked.returncode == 3
    assert "evil.pth (new)" in checked.stdout
    assert f"Next: keychain-auth upgrade {venv}" in checked.stdout
    assert "evil.pth (new)" in output(launch(world, venv))
    world.cli("upgrade", venv)
    assert world.cli_json("check", venv)["imports"] == {"fit": True, "why": None, "mend": ""}


@pytest.mark.parametrize("quotes", ['"', "'"], ids=["pip", "uv"])
def test_an_app_whose_path_has_a_space(world: World, keeper: Daemon, quotes: str) -> None:
    """No first line can name its Python, so installers let a shell execute the second line."""
    python, folder = world.installation.interpreter, world.path("my venv")
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True, **world.user.popen())
    lines = ("#!/bin/sh", f"'''exec' {quotes}{folder}/bin/python{quotes} \"$0\" \"$@\"", "' '''", ASKING)
    tool = world.write("my venv/bin/tool", "\n".join(lines), 0o755)
    done = world.cli("register", "--app", tool)
    assert done.returncode == 0, done.stderr
    world.cli("authorize", tool, "aws")
    assert secret_by(output(launch(world, tool))) == {"honest"}


def test_an_app_is_of_a_virtual_environment(world: World) -> None:
    done = world.cli("register", "--app", world.write("app.py", "#!/usr/bin/python3\n"))
    assert done.returncode == 2
    assert "Next: keychain-auth register --script" in done.stderr


needs_node = pytest.mark.skipif(not os.path.exists(NODE), reason=f"there is no {NODE}")


@needs_node
def test_code_that_node_is_told_to_load(world: World, keeper: Daemon) -> None:
    script = world.write("app.js", NODE_ASKING)
    registered(world, script, "--allow-declared", "--executable-memory", interpreter=NODE)
    env = {"NODE_OPTIONS": f"--require {world.write('evil.js', NODE_EVIL)}"}
    assert "evil" in secret_by(output(declared(world, script, env=env, interpreter=NODE)))
    registered(world, script, "--minimum-grade", "launched", interpreter=NODE)
    assert "evil" not in secret_by(output(declared(world, script, env=env, interpreter=NODE)))
    assert secret_by(output(launch(world, script, env=env))) == {"honest"}


@needs_node
def test_modules_of_node(world: World, keeper: Daemon) -> None:
    world.write("node_modules/helper/index.js", NODE_EVIL)
    script = world.write("app.js", "require('helper');\n" + NODE_ASKING)
    registered(world, script, "--allow-declared", interpreter=NODE)
    assert "evil" in secret_by(output(declared(world, script, interpreter=NODE)))
    said = output(launch(world, script))
    assert SECRET not in said
    assert "lies outside of what was registered" in said
    world.write("node_modules/helper/index.js", "exports.x = 1;")
    registered(world, script, "--tree", world.path("node_modules"), interpreter=NODE)
    assert secret_by(output(launch(world, script))) == {"honest"}
    world.write("node_modules/helper/index.js", NODE_EVIL)
    assert "helper/index.js (changed)" in output(launch(world, script))


@needs_node
def test_a_connection_from_before_that_node_would_mark_close_on_exec(world: World, keeper: Daemon) -> None:
    """Node marks what it inherits, so a connection made by another program looks like its own."""
    script = world.write("app.js", "setTimeout(() => {}, 60000);")
    code = (
        "import os, socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(os.environ['KEYCHAIN_AUTH_SOCKET'])\n"
        f"s.sendall({ASK!r}.encode() + bytes([10]))\nos.set_inheritable(s.fileno(), True)\n"
        "if os.fork() == 0:\n print('child', s.recv(4096).decode(), flush=True)\n os._exit(0)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    registered(world, script, "--allow-declared", interpreter=NODE)
    keeper.signal(signal.SIGSTOP)
    attacker = world.spawn([world.python, "-c", code, NODE, script], env={"KEYCHAIN_AUTH_SOCKET": world.socket})
    until(lambda: _sleeps_in_node(attacker.pid), "Node waits for its timer")
    keeper.signal(signal.SIGCONT)
    attacker.out.find(lambda line: SECRET.encode() in line)
    registered(world, script, "--minimum-grade", "launched", interpreter=NODE)
    with open(os.path.join(HERE, "front.py"), encoding="utf-8") as file:
        front = world.write("front.py", file.read())
    for trick in ("connection", "late_connection"):
        process = world.spawn([world.python, front, trick, script], env={"KEYCHAIN_AUTH_SOCKET": world.socket})
        assert SECRET not in output(process)
        assert process.returncode == -signal.SIGKILL


def _sleeps_in_node(pid: int) -> bool:
    """Is Node's event loop up? By then it has marked its descriptors."""
    try:
        names = os.listdir(f"/proc/{pid}/task")
        return os.readlink(f"/proc/{pid}/exe") == os.path.realpath(NODE) and len(names) > 4
    except OSError:
        return False
