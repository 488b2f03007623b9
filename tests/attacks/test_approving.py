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


@pytest.mark.skipif(not users.may_be_root(), reason="only root can make a daemon for the whole machine")
def test_the_daemon_tells_nobody_what_lies_in_folders_that_are_closed_to_him(
    machine: SystemWorld, stranger: Account
) -> None:
    """It opens what a command line names, and may read everything: so its answer told who has which files."""
    another = users.third()
    assert another is not None
    folders = {}
    for name, account in (("mine", stranger), ("theirs", another)):
        folders[name] = machine.path(name)
        os.mkdir(folders[name], 0o700)
        os.mkdir(os.path.join(folders[name], "sub"))
        with open(os.path.join(folders[name], "there.py"), "w", encoding="utf-8") as file:
            file.write("print()\n")
        os.symlink(machine.path("open.py"), os.path.join(folders[name], "link"))
        for path in ("there.py", "sub", "link", ""):
            account.own(os.path.join(folders[name], path))
    with open(machine.path("open.py"), "w", encoding="utf-8") as file:
        file.write("print()\n")
    program = machine.program("python3", source=source("interpreter"))
    machine.start()

    def asked(path: str) -> tuple[bytes, list[str]]:
        """What it is told, and which scripts wait by then."""
        client = machine.spawn([program, path, machine.socket], stranger)
        answer = client.out[client.out.find(lambda line: b"RESPONSE" in line)]
        waiting = json.loads(machine.cli("list-pending", "--json").stdout)
        return answer, [one["path"] for one in waiting if one["interpreter"]]

    theirs, mine = folders["theirs"], folders["mine"]
    missing = asked(f"{theirs}/missing")
    for name in ("there.py", "link", "sub/../there.py", "sub/../../open.py"):
        os.stat(os.path.join(theirs, name))  # the naive way, with the rights of the daemon: it is there
        assert asked(f"{theirs}/{name}") == missing
    assert missing[1] == []
    assert asked("/etc/shadow") == missing  # nor does its hash come into the record
    for name, found in (
        ("there.py", f"{mine}/there.py"), ("link", machine.path("open.py")), ("sub/../there.py", f"{mine}/there.py")
    ):  # fmt: skip
        assert found in asked(f"{mine}/{name}")[1]


def _key(machine: SystemWorld) -> str:
    return machine.path("var/lib/keychain-auth/vault.key")
