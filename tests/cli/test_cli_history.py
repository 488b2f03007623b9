"""history and restore-value, with a program and a person as writers."""

from __future__ import annotations

import contextlib
import sqlite3

from daemon.requests import SUCCESS, read, request, results, write
from support.daemon import Daemon
from support.world import World


def test_who_wrote_what_and_back_again(running: World) -> None:
    program = running.granted("talker", "aws")
    talker = running.talker(program)
    assert talker.ask(write({"key": "first"})) == SUCCESS
    assert running.cli("set", "aws", "key", input="second").returncode == 0
    assert talker.ask(write({"key": "third"})) == SUCCESS
    shown = running.cli_json("history", "aws", "key")
    assert [row["number"] for row in shown] == [0, 1, 2]
    assert [row["program"] == program for row in shown] == [True, False, True]
    assert running.cli_json("restore-value", "aws", "key", "2")["outcome"] == "restored"
    assert talker.ask(read("key")) == results({"target": "key", "value": "first"})
    text = running.cli("history", "aws", "key").stdout
    assert text.splitlines()[1].startswith("0 (present)")
    for value in ("first", "second", "third"):
        assert value not in text
    running.assert_nowhere("second", "third")
    actions = [(line["action"], line["targets"]) for line in running.audit() if line["action"].startswith("admin_")]
    assert ("admin_history", ["key"]) in actions
    assert ("admin_restore_value", ["key"]) in actions


def test_a_deleted_secret_comes_back_unless_it_was_forgotten(running: World) -> None:
    program = running.granted("talker", "aws")
    talker = running.talker(program)
    assert talker.ask(write({"key": "v"})) == SUCCESS
    assert talker.ask(request("delete", targets=["key"])) == SUCCESS
    assert running.cli("restore-value", "aws", "key").returncode == 0
    assert talker.ask(read("key")) == results({"target": "key", "value": "v"})
    assert running.cli("rm", "aws", "key").returncode == 0
    assert running.cli_json("history", "aws", "key", "--forget")["outcome"] == "forgotten"
    for words in (("history", "aws", "key"), ("history", "aws", "key", "--forget"), ("restore-value", "aws", "key")):
        done = running.cli(*words)
        assert (done.returncode, done.stdout) == (6, ""), words
    assert talker.ask(read("key")) == results()


def test_the_history_can_be_off(world: World) -> None:
    world.write_settings("[history]\nvalues = 0\n")
    world.start()
    for value in ("1", "2"):
        assert world.cli("set", "aws", "key", input=value).returncode == 0
    assert [row["number"] for row in world.cli_json("history", "aws", "key")] == [0]
    assert world.cli("restore-value", "aws", "key").returncode == 6


def test_vault_check_while_the_daemon_serves(running: World) -> None:
    for value in ("1", "2"):
        assert running.cli("set", "aws", "key", input=value).returncode == 0
    assert running.cli_json("vault", "check") == {
        "secrets": 1,
        "services": 1,
        "earlier_values": 1,
        "findings": [],
        "ok": True,
    }
    daemon = next(process for process in running._processes if isinstance(process, Daemon))
    daemon.stop()
    assert running.cli_json("vault", "check")["ok"]  # without a daemon too
    running.start()
    with contextlib.closing(sqlite3.connect(f"{running.data_dir}/vault.db")) as db, db:
        db.execute("UPDATE history SET value = zeroblob(40)")
    done = running.cli("vault", "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert "an earlier value of 'key' in service 'aws' does not authenticate" in done.stderr
