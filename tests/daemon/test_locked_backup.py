"""A vault with a passphrase, backed up and restored: slots, seal and history come with it."""

from __future__ import annotations

from collections.abc import Callable

from daemon.requests import PENDING, denied, read
from support.person import protect, tell, told
from support.world import World

CHEAP = "[lock]\npassphrase_seconds = 0.001\n"
BACKUP_WORDS = "another set of random words"
FD = ("--backup-passphrase-fd", "0")


def kinds(world: World) -> list[str]:
    return [slot["kind"] for slot in world.cli_json("protect", "list")["slots"]]


def backed_up(world: World, name: str = "vault.backup") -> str:
    """A backup of the running daemon's vault, which holds one secret."""
    done = tell(world, "backup", world.path(name), *FD, stdin=BACKUP_WORDS + "\n")
    assert done.returncode == 0, done.stderr
    return world.path(name)


def test_on_another_machine_the_passphrase_comes_with_it(worlds: Callable[[], World]) -> None:
    here, there = worlds(), worlds()
    for world in (here, there):
        world.write_settings(CHEAP)
    here.start()
    here.cli("set", "aws", "a", input="hunter2")
    protect(here)
    told(here, "rekey")
    with open(backed_up(here), "rb") as file:
        elsewhere = there.write("from-another-machine", file.read())
    evil = there.granted("evil", "aws")
    done = there.cli("restore", elsewhere, *FD, input=BACKUP_WORDS)
    assert done.returncode == 0, done.stderr

    there.start()
    assert kinds(there) == ["passphrase"]  # no key file where there was none
    assert there.cli("get", "aws", "a").returncode == 5
    told(there, "unlock")
    assert there.cli("get", "aws", "a").returncode == 5  # the passphrase is asked for here too
    assert tell(there, "get", "aws", "a").stdout == "hunter2"
    assert there.talker(evil).ask(read("a")) == denied(PENDING)  # what was accepted came with the vault
    assert told(there, "vault", "check")["ok"]
    assert there.cli("audit", "verify").returncode == 0


def test_over_a_locked_vault(world: World) -> None:
    world.write_settings(CHEAP)
    daemon = world.start()
    world.cli("set", "aws", "a", input="hunter2")
    protect(world)
    path = backed_up(world)
    assert tell(world, "set", "aws", "a", stdin="later").returncode == 0
    daemon.stop()
    done = world.cli("restore", path, *FD, input=BACKUP_WORDS)
    assert done.returncode == 0, done.stderr
    world.start()
    assert kinds(world) == ["passphrase"]
    told(world, "unlock")
    assert tell(world, "get", "aws", "a").stdout == "hunter2"
    assert world.cli("audit", "verify").returncode == 0
