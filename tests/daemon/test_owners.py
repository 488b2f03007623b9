"""A user id that is given to another account: whoever has the number had the secrets, and has nothing of them now.

Accounts of this machine are not made and removed here: a daemon under test asks a file of the test's for their names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from daemon.requests import SUCCESS, denied, read, request, results, write
from support import users
from support.daemon import Daemon
from support.system import SystemWorld
from support.users import Account
from support.world import World

pytestmark = pytest.mark.skipif(not users.may_be_root(), reason="only root can make a daemon for the whole machine")
REFUSED = denied("user_not_allowed")
VALUE = {"target": "key", "value": "of ann"}

WITH_OTHER_NAMES = """
import json, sys
from keychain_auth.cli import app
from keychain_auth.oslayer import system

def user_name(uid):
    with open(FILE, encoding="utf-8") as file:
        return json.load(file).get(str(uid), str(uid))

system.user_name = user_name
app.run(sys.argv[1:])
"""


class Machine(SystemWorld):
    """``called`` says which account a number is from now on."""

    def called(self, **names: str) -> None:
        path = self.path("accounts")
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump({number.removeprefix("uid"): name for number, name in names.items()}, file)
        os.chmod(f"{path}.new", 0o644)
        os.rename(f"{path}.new", path)

    def start(self) -> Daemon:
        code = WITH_OTHER_NAMES.replace("FILE", repr(self.path("accounts")))
        words = [self.world.python, "-c", code, "--system", "--root", self.root, "start"]
        daemon = Daemon(words, self.world.environment(), users.root(), self.socket)
        self._started.append(daemon)
        return daemon.wait_ready()

    def told(self, *words: str) -> Any:
        done = self.cli(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def machine(world: World) -> Iterator[Machine]:
    with closing(Machine(world)) as made:
        yield made


@pytest.fixture
def program(machine: Machine, ann: Account) -> str:
    """A program that everybody may use; the account ann has stored something."""
    path = machine.program("talker")
    entry = machine.world.entry(path, ["aws", "team"], ["aws", "team"], True)
    machine.allow(entry, services=[{"service": "team", "shared": True}])
    machine.called(**{f"uid{ann.uid}": "ann"})
    machine.start()
    assert machine.talker(path, ann).ask(write({"key": "of ann"})) == SUCCESS
    return path


def asks_of_all_kinds() -> list[dict[str, Any]]:
    return [
        read("key"), read("k", match="prefix"), request("search"), write({"key": "x"}),
        request("delete", targets=["key"]), request("delete", targets=["k"], match="prefix"),
    ]  # fmt: skip


def test_a_number_that_was_given_to_another_account_gets_nothing(machine: Machine, program: str, ann: Account) -> None:
    machine.called(**{f"uid{ann.uid}": "eve"})
    eve = machine.talker(program, ann)
    for asked in asks_of_all_kinds():
        assert eve.ask(asked) == REFUSED
    assert eve.ask(write({"key": "1"}, "team")) == SUCCESS  # what all share is hers too
    refused = [line for line in machine.audit() if line["reason"] == "user_not_allowed"]
    assert {line["result"] for line in refused} == {"DENIED"}
    assert "belongs to the account ann, and this one is called eve" in refused[0]["detail"]
    assert f"owner keep {ann.uid}" in refused[0]["detail"]
    machine.called(**{f"uid{ann.uid}": "ann"})
    assert machine.talker(program, ann).ask(read("key")) == results(VALUE)


def test_the_number_of_a_removed_account_serves_nobody_else(machine: Machine, program: str, ann: Account) -> None:
    machine.called()
    assert machine.talker(program, ann).ask(read("key")) == REFUSED


def test_it_is_remembered_over_a_restart_and_a_kill(machine: Machine, program: str, ann: Account) -> None:
    assert machine.cli("restart").returncode == 0
    machine.called(**{f"uid{ann.uid}": "eve"})
    assert machine.talker(program, ann).ask(read("key")) == REFUSED


def test_root_says_that_an_account_was_renamed(machine: Machine, program: str, ann: Account) -> None:
    machine.called(**{f"uid{ann.uid}": "anna"})
    assert machine.talker(program, ann).ask(read("key")) == REFUSED
    [owner] = machine.told("owner", "list")
    assert owner == {"uid": ann.uid, "account": "ann", "now": "anna", "services": ["aws"]}
    shown = machine.cli("owner", "list").stdout
    assert f"Next, if it is the same person: keychain-auth --system owner keep {ann.uid}" in shown
    assert machine.told("owner", "keep", str(ann.uid))["before"] == "ann"
    assert machine.talker(program, ann).ask(read("key")) == results(VALUE)
    assert "admin_owner_keep" in [line["action"] for line in machine.audit()]


def test_root_removes_what_a_former_account_stored(machine: Machine, program: str, ann: Account) -> None:
    machine.talker(program, ann).ask(write({"key": "newer", "other": "1"}))
    machine.called(**{f"uid{ann.uid}": "eve"})
    assert machine.told("owner", "forget", str(ann.uid))["removed"] == 2
    assert machine.told("owner", "list") == []
    assert machine.cli("owner", "forget", str(ann.uid)).returncode == 6
    eve = machine.talker(program, ann)
    assert eve.ask(read("key", "other")) == results()
    assert eve.ask(write({"key": "of eve"})) == SUCCESS
    assert machine.told("history", f"@{ann.uid}:aws", "key") == machine.told("history", f"@{ann.uid}:aws", "key")[:1]
    assert machine.told("owner", "list")[0]["account"] == "eve"


def test_where_nothing_is_stored_a_new_account_takes_the_place(machine: Machine, program: str, ann: Account) -> None:
    assert machine.talker(program, ann).ask(request("delete", targets=["key"])) == SUCCESS
    machine.called(**{f"uid{ann.uid}": "eve"})
    assert machine.talker(program, ann).ask(write({"key": "of eve"})) == SUCCESS
    assert machine.told("owner", "list")[0]["account"] == "eve"
