"""backup and restore: one file, its own passphrase, nothing overwritten, all on record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from support.world import World

WORDS = "correct horse battery staple"
FD = ("--backup-passphrase-fd", "0")


def backed_up(world: World, name: str = "vault.backup") -> str:
    """A backup of two secrets, one of them with an earlier value."""
    for target, value in (("a", "first a"), ("a", "second a"), ("b", "only b")):
        assert world.cli("set", "aws", target, input=value).returncode == 0
    done = world.cli_json("backup", world.path(name), *FD, input=WORDS + "\n")
    assert done["outcome"] == "written"
    return world.path(name)


def restored(world: World, path: str) -> dict[str, object]:
    found = world.cli_json("restore", path, *FD, input=WORDS)
    assert isinstance(found, dict)
    return found


def test_a_backup_made_while_it_runs_opens_on_another_machine(worlds: Callable[[], World]) -> None:
    here, there = worlds(), worlds()
    daemon = here.start()
    path = backed_up(here)
    assert os.stat(path).st_mode & 0o777 == 0o600
    with open(path, "rb") as file:
        content = file.read()
    assert b"second a" not in content
    assert ["admin_backup", [path]] in [[line["action"], line["targets"]] for line in here.audit()]
    assert WORDS not in daemon.log
    elsewhere = there.write("from-another-machine", content)
    looked = there.cli_json("restore", "--dry-run", elsewhere, *FD, input=WORDS)
    assert (looked["secrets"], looked["earlier_values"], looked["ok"]) == (2, 1, True)
    assert restored(there, elsewhere)["new_key_file"]
    there.start()
    assert there.cli("get", "aws", "a").stdout == "second a"
    assert there.cli("restore-value", "aws", "a").returncode == 0
    assert there.cli("get", "aws", "a").stdout == "first a"
    assert there.cli_json("vault", "check")["ok"]
    assert there.cli("audit", "verify").returncode == 0
    assert "vault_restore" in [line["action"] for line in there.audit()]


def test_what_was_there_is_kept_and_the_record_goes_on(world: World) -> None:
    daemon = world.start()
    path = backed_up(world)
    assert world.cli("set", "aws", "later", input="after the backup").returncode == 0
    done = world.cli("restore", path, *FD, input=WORDS)
    assert done.returncode == 1
    assert "another process has the vault" in done.stderr  # the running daemon is not disturbed
    assert "another process has the vault" in world.cli("restore", path, input="").stderr  # before any passphrase
    assert world.cli("get", "aws", "later").stdout == "after the backup"
    daemon.stop()
    aside = restored(world, path)["aside"]
    assert isinstance(aside, str)
    assert sorted(os.listdir(aside)) == ["vault.db"]  # the key file fits and stays, and so does the audit log
    daemon = world.start()
    assert world.cli("get", "aws", "later").returncode == 6
    assert world.cli("get", "aws", "b").stdout == "only b"
    assert world.cli("audit", "verify").returncode == 0
    actions = [line["action"] for line in world.audit()]
    assert actions.index("admin_backup") < actions.index("vault_restore") < len(actions) - 1
    daemon.stop()
    shutil.move(os.path.join(aside, "vault.db"), os.path.join(world.data_dir, "vault.db"))  # and back again
    world.start()
    assert world.cli("get", "aws", "later").stdout == "after the backup"


def test_over_another_vault_its_log_goes_aside_with_it(worlds: Callable[[], World]) -> None:
    here, there = worlds(), worlds()
    here.start()
    with open(backed_up(here), "rb") as file:
        content = file.read()
    daemon = there.start()
    assert there.cli("set", "own", "t", input="v").returncode == 0
    daemon.stop()
    aside = restored(there, there.write("b", content))["aside"]
    assert isinstance(aside, str)
    assert {"vault.db", "vault.key", "audit.log", "audit.head"} <= set(os.listdir(aside))
    there.start()
    assert there.cli("get", "aws", "b").stdout == "only b"
    assert there.cli("audit", "verify").returncode == 0


def test_nothing_is_overwritten_and_what_is_wrong_is_said(running: World) -> None:
    path = backed_up(running)
    with open(path, "rb") as file:
        content = file.read()
    done = running.cli("backup", path, *FD, input=WORDS)
    assert (done.returncode, "exists already" in done.stderr) == (2, True)
    done = running.cli("backup", running.path("nowhere/b"), *FD, input=WORDS)
    assert (done.returncode, "cannot write" in done.stderr) == (1, True)
    done = running.cli("backup", running.path("b2"), *FD, input="short")
    assert (done.returncode, "at least 8" in done.stderr) == (2, True)
    assert not os.path.exists(running.path("b2"))
    done = running.cli("restore", "--dry-run", path, *FD, input="another passphrase")
    assert (done.returncode, "not the passphrase" in done.stderr) == (3, True)
    done = running.cli("restore", "--dry-run", running.write("cut", content[:-9]), *FD, input=WORDS)
    assert (done.returncode, "no whole backup" in done.stderr) == (1, True)
    assert running.cli("restore", running.path("missing"), *FD, input=WORDS).returncode == 6
    with open(path, "rb") as file:
        assert file.read() == content
