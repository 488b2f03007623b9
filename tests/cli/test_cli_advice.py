"""What a command says when it cannot do what was asked: the step that mends it, and no other."""

from __future__ import annotations

import pytest

from support.person import protect, tell
from support.world import World


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("backup", "vault.backup"), "--backup-passphrase-fd"),
        (("protect", "add", "passphrase"), "--new-passphrase-fd"),
    ],
)
def test_without_a_terminal_the_option_that_is_missing_is_named(
    world: World, words: tuple[str, ...], option: str
) -> None:
    world.start()
    done = tell(world, *words, passphrase="the one of the vault does not help")
    assert (done.returncode, f"Next: give it by {option} FD\n" in done.stderr) == (5, True), done.stderr


def test_a_wrong_passphrase_of_a_backup_says_which_one_is_wanted(world: World) -> None:
    world.start()
    path, option = world.path("vault.backup"), ("--backup-passphrase-fd", "0")
    world.cli_json("backup", path, *option, input="six random words are better")
    done = world.cli("restore", path, "--dry-run", *option, input="what opens the vault")
    assert done.returncode == 3
    assert "the one that it was given when it was made" in done.stderr
    assert "Next: try again with the passphrase of the backup; nothing was changed" in done.stderr


def test_a_second_start_says_how_to_end_the_first(world: World) -> None:
    daemon = world.start()
    done = world.cli("start")
    assert done.returncode == 1
    assert f"kill {daemon.pid}" in done.stderr
    assert "keychain-auth status" in done.stderr


def test_a_deleted_value_that_comes_back_replaces_nothing(world: World) -> None:
    world.start()
    world.cli("set", "aws", "key", input="one")
    world.cli("set", "aws", "key", input="two")
    assert "now number 1" in world.cli("restore-value", "aws", "key").stdout
    assert world.cli("rm", "aws", "key").returncode == 0
    assert world.cli("restore-value", "aws", "key").stdout == "restored aws key: it was deleted\n"


def test_a_locked_vault_without_a_daemon_is_not_unlocked_by_unlock_alone(world: World) -> None:
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    daemon = world.start()
    protect(world)
    daemon.stop()
    done = world.cli("protect", "remove", "2")
    assert done.returncode == 5
    assert "Next: keychain-auth start; then, beside it: keychain-auth unlock" in done.stderr


def test_lines_that_waited_for_the_key_are_shown_with_their_own_time(world: World) -> None:
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    daemon = world.start()
    protect(world)
    daemon.stop()
    world.start()
    assert tell(world, "unlock").returncode == 0
    line = [line for line in world.audit() if line["action"] == "daemon_start"][-1]
    made = line["detail"].partition("made ")[2].partition(",")[0]
    row = next(row for row in world.cli("audit", "tail").stdout.splitlines() if f"(written {line['timestamp']})" in row)
    assert row.startswith(f"{made} (written ")
    assert "before the vault was unlocked" not in row


def test_status_shows_each_rule_only_when_it_is_asked_for(world: World) -> None:
    world.start()
    short, long = world.cli("status").stdout, world.cli("status", "--checks").stdout
    rules = world.cli_json("status")["identity"]
    assert f"{len(rules)} rules; how this kernel enforces each" in short
    assert "checks " not in short.replace("--checks", "")
    assert long.count("checks ") >= len(rules)
    assert "0 programs" in short
    world.allow(world.build_client(), ["aws"], [], False)
    assert "1 program," in world.cli("status").stdout
