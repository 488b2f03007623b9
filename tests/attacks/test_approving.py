"""What whoever waits for approval does to the person who approves: by what is run, and by what is shown."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from attacks.lab import source
from daemon.requests import PENDING
from keychain_auth.platform.place import only_root_writes
from support import programs, users
from support.system import SystemWorld
from support.users import Account
from support.world import World


@pytest.fixture
def machine(world: World) -> Iterator[SystemWorld]:
    with closing(SystemWorld(world)) as made:
        yield made


@pytest.mark.skipif(not users.may_be_root(), reason="only root can make a daemon for the whole machine")
def test_an_interpreter_of_another_user_is_not_run_by_who_approves_its_script(
    machine: SystemWorld, stranger: Account
) -> None:
    """To say what a script imports, a command runs its interpreter. In system mode it does so as the daemon's user."""
    home = machine.path("home")
    os.mkdir(home)
    os.chmod(home, 0o777)  # so that the loot can be left there, whoever runs it
    program = programs.install(programs.compiled(source("interpreter")), os.path.join(home, "python3"), stranger)
    script = os.path.join(home, "nice.py")
    for path, text in ((script, "print('nice')\n"), (os.path.join(home, "wanted"), _key(machine))):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        stranger.own(path)
    os.chmod(home, 0o755)
    stranger.own(home)
    machine.start()
    asked = machine.spawn([program, script, machine.socket], stranger)
    asked.out.find(lambda line: PENDING.encode() in line)
    [waiting] = json.loads(machine.cli("list-pending", "--json").stdout)
    assert (waiting["path"], waiting["interpreter"]["path"]) == (script, program)
    loot = os.path.join(home, "loot")
    os.chmod(home, 0o777)

    # The naive way to ask it, by the user that every command of this daemon is:
    words, as_daemon = [program, "-I", "-c", ""], machine.world.user.popen()
    subprocess.run(words, env={}, check=True, stdout=subprocess.DEVNULL, **as_daemon)
    with open(loot, "rb") as stolen, open(_key(machine), "rb") as key:
        assert stolen.read() == key.read()
    os.unlink(loot)

    done = machine.cli("approve", waiting["id"], "--read", "aws")
    assert done.returncode == 1, done.stdout
    assert f"{program} is not run here" in done.stderr
    assert not os.path.lexists(loot)
    done = machine.cli("register", "--script", script, "--interpreter", program)
    assert done.returncode == 1, done.stdout
    assert not os.path.lexists(loot)
    roots = machine.world.installation.interpreter
    if only_root_writes(roots):
        done = machine.cli("register", "--script", script, "--interpreter", roots)
        assert done.returncode == 0, done.stderr


def _key(machine: SystemWorld) -> str:
    return machine.path("var/lib/keychain-auth/vault.key")
