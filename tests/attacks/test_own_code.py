"""The daemon's own code, where the user can write it: exchanged under a daemon that runs, with its vault open."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import struct
import subprocess

import cryptography
import jeepney
import msgspec
import pytest

import keychain_auth
from attacks.lab import won, x86_64_only
from attacks.naive import SECRET
from daemon.requests import read
from support.daemon import Daemon
from support.lines import until
from support.person import protect
from support.secret_service import Desktop
from support.world import World

PT_LOAD, PF_X = 1, 1  # elf(5)
_PACKAGE = os.path.dirname(os.path.abspath(keychain_auth.__file__))
# It looks for the secret among all that the daemon has, from inside.
_EVIL = """
import asyncio
for task in asyncio.all_tasks():
    app = getattr(task.get_coro().cr_frame, "f_locals", {{}}).get("self")
    if type(app).__name__ == "App":
        found = app._safe.read_now("aws", ("secret",), {{}})
        open({out!r}, "w").write(found[0].value)
raise ImportError
"""


# Uses a library, waits, and uses it again.
_NAIVE = "import msgspec; msgspec.json.decode(b'[]'); print('ready', flush=True); input(); msgspec.json.decode(b'[]')"


@pytest.fixture
def writable(world: World) -> str:
    """A copy of the package that belongs to the user, as ``pip install --user`` makes one; returns its folder."""
    copy = world.path("lib/keychain_auth")
    shutil.copytree(_PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(os.path.dirname(msgspec.__file__), world.path("lib/msgspec"))
    subprocess.run(["/bin/chown", "-R", f"{world.user.uid}:{world.user.gid}", world.path("lib")], check=True)
    rest = world.env.get("PYTHONPATH", "")
    world.env["PYTHONPATH"] = world.path("lib") + (f":{rest}" if rest else "")
    world.write_settings("[lock]\npassphrase_seconds = 0.001\non_sleep = false\non_screen_lock = false\n")
    return copy


def opened(world: World) -> Daemon:
    """A daemon whose vault a person has opened, and that holds a secret of a program."""
    daemon = world.start()
    assert world.cli("set", "aws", "secret", input=SECRET).returncode == 0
    protect(world)
    return daemon


def exchange(world: World, copy: str) -> str:
    """Another module in the place of one that the daemon needs for the first time when it has something to tell."""
    out = world.path("evil.txt")
    path = os.path.relpath(os.path.join(copy, "secret_service/notifications.py"), world.home)
    world.write(path, _EVIL.format(out=out), 0o644)
    return out


def overwrite_code(library: str) -> None:
    """Breakpoints over all code of an ELF file, in place: each instruction of it ends the process."""
    with open(library, "r+b") as file:
        data = file.read()
        (table,) = struct.unpack_from("=Q", data, 32)
        size, count = struct.unpack_from("=HH", data, 54)
        for at in range(table, table + size * count, size):
            kind, rights, offset, _, _, length = struct.unpack_from("=IIQQQQ", data, at)
            if kind == PT_LOAD and rights & PF_X:
                file.seek(offset)
                file.write(b"\xcc" * length)


@x86_64_only
def test_code_that_is_overwritten_in_a_library_of_the_daemon(world: World, writable: str) -> None:
    """Pages of a library that nobody wrote to are the file's: what is written there is run by who has it mapped."""
    program = world.granted("trusted", "aws")
    naive = world.spawn([world.python, "-c", _NAIVE])
    naive.out.find(lambda line: line == b"ready")
    opened(world)
    talker = world.talker(program)
    [library] = glob.glob(world.path("lib/msgspec/_core*.so"))
    overwrite_code(library)
    naive.feed(b"\n")
    assert naive.wait() == -signal.SIGTRAP
    assert won(talker.ask(read("secret")))


def test_code_that_is_exchanged_under_a_daemon_that_runs(world: World, writable: str) -> None:
    """A stranger who waits is told to the person, and for that a module is loaded."""
    daemon = opened(world)
    out = exchange(world, writable)
    world.asking({**read("secret"), "wait": 600}, world.build_client("stranger", "evil"))
    daemon.wait_log("not loaded")
    assert not os.path.exists(out)


def test_expected_open_code_that_was_changed_before_the_start(world: World, writable: str) -> None:
    """Whoever can write the package writes the next daemon."""
    out = exchange(world, writable)
    opened(world)
    world.asking({**read("secret"), "wait": 600}, world.build_client("stranger", "evil"))
    until(lambda: os.path.exists(out) and os.path.getsize(out) > 0, "the foreign code ran")
    with open(out, encoding="utf-8") as file:
        assert file.read() == SECRET


def test_a_part_that_is_as_it_was_is_loaded(world: World, writable: str) -> None:
    daemon = opened(world)
    world.asking({**read("secret"), "wait": 600}, world.build_client("stranger", "evil"))
    until(lambda: "D-Bus" in world.cli_json("status")["notifications"], "it was loaded, and found no desktop")
    assert "not loaded" not in daemon.log


def test_a_keyring_is_asked_by_who_installed_everything_for_himself(
    world: World, writable: str, desktop: Desktop
) -> None:
    """What talks to a keyring is loaded late, with parts of packages that have been in use from the start."""
    for package in (cryptography, jeepney):
        place = world.path("lib", package.__name__)
        shutil.copytree(os.path.dirname(package.__file__), place, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["/bin/chown", "-R", f"{world.user.uid}:{world.user.gid}", world.path("lib")], check=True)
    world.env.update(desktop.env)
    daemon = world.start()
    assert world.cli_json("protect", "add", "secret_service")["number"] == 2
    assert "not loaded" not in daemon.log


def test_a_restart_after_every_file_was_installed_anew(world: World, writable: str) -> None:
    """``pip install --upgrade .``, then ``restart``: what the old daemon needs to hand on, it has by then."""
    program = world.granted("trusted", "aws")
    daemon = world.start()
    assert world.cli("set", "aws", "secret", input=SECRET).returncode == 0
    for file in glob.glob(world.path("lib/**/*.py"), recursive=True):
        shutil.copy(file, file + ".new")
        os.replace(file + ".new", file)
    subprocess.run(["/bin/chown", "-R", f"{world.user.uid}:{world.user.gid}", world.path("lib")], check=True)
    assert world.cli_json("restart")["pid"] == daemon.pid
    assert "not loaded" not in daemon.log
    assert won(world.talker(program).ask(read("secret")))
