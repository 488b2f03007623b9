"""Open and locked: what programs, people and the audit log see of it, with real daemons."""

from __future__ import annotations

import json
import os
import time

import pytest

from daemon.requests import denied, failed, read, request, results, write
from support.lines import until
from support.person import WORDS, protect, tell, told
from support.world import World

CHEAP = "[lock]\npassphrase_seconds = 0.001\n"


@pytest.fixture
def cheap(world: World) -> World:
    """A world whose passphrases cost little."""
    world.write_settings(CHEAP)
    return world


def test_a_vault_with_a_passphrase_only_starts_locked(cheap: World) -> None:
    program = cheap.granted("talker", "aws")
    daemon = cheap.start()
    cheap.talker(program).ask(write({"a": "hunter2"}))
    protect(cheap)
    assert cheap.talker(program).ask(read("a")) == results({"target": "a", "value": "hunter2"})  # it is still open
    assert not os.path.exists(os.path.join(cheap.data_dir, "vault.key"))
    daemon.stop()

    daemon = cheap.start()
    daemon.wait_log("locked")
    talker = cheap.talker(program)
    for asked in (read("a"), write({"b": "x"}), request("delete", targets=["a"]), request("search")):
        assert talker.ask(asked) == failed("keychain_locked")
    done = cheap.cli("get", "aws", "a")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "the vault is locked: nobody has unlocked it yet\nNext: keychain-auth unlock\n"
    assert cheap.cli("unlocked").returncode == 5
    assert cheap.cli("unlocked").stdout == ""
    status = cheap.cli_json("status")
    assert (status["keychain"]["open"], status["keychain"]["slots"]) == (False, ["passphrase"])
    assert status["protection"].startswith("passphrase stops whoever has the files")

    assert told(cheap, "unlock")["outcome"] == "unlocked"
    assert cheap.cli("unlocked").returncode == 0
    assert talker.ask(read("a")) == results({"target": "a", "value": "hunter2"})  # on the connection that was open
    assert told(cheap, "unlock")["outcome"] == "unchanged"
    # What was refused before the key was there is on record now, in order, and the chain holds.
    lines = cheap.audit()
    refused = [line for line in lines if line["reason"] == "keychain_locked"]
    assert [line["action"] for line in refused] == ["read", "write", "delete", "search", "admin_read"]
    assert all("before the vault was unlocked" in line["detail"] for line in refused[:4])
    assert cheap.cli("audit", "verify").returncode == 0
    cheap.assert_nowhere(WORDS, "hunter2")


def test_lock_and_unlock_while_it_runs(cheap: World) -> None:
    program = cheap.granted("talker", "aws")
    cheap.start()
    talker = cheap.talker(program)
    talker.ask(write({"a": "hunter2"}))
    assert cheap.cli_json("lock")["outcome"] == "locked"
    assert cheap.cli_json("lock")["outcome"] == "unchanged"
    assert talker.ask(read("a")) == failed("keychain_locked")
    assert cheap.cli_json("unlock")["outcome"] == "unlocked"  # by the key file: nobody is asked
    assert talker.ask(read("a")) == results({"target": "a", "value": "hunter2"})
    actions = [line["action"] for line in cheap.audit()]
    assert [action for action in actions if "lock" in action] == ["admin_lock", "lock", "admin_unlock"]
    assert cheap.cli("audit", "verify").returncode == 0


def test_a_stranger_is_told_that_it_is_one_while_it_is_locked(cheap: World) -> None:
    cheap.start()
    cheap.cli("lock")
    answer = cheap.talker().ask(read("a"))
    assert answer == denied("unregistered_binary_pending_approval")
    assert len(cheap.pending()) == 1


def test_nobody_else_takes_the_vault_while_it_is_locked(cheap: World) -> None:
    cheap.start()
    cheap.cli("lock")
    other = cheap.start(socket=cheap.path("run/other.sock"), ready=False)
    assert other.wait() == 1
    assert "another process has the vault" in other.log


def test_a_wrong_passphrase_is_refused_slowly_and_on_record(cheap: World) -> None:
    cheap.start()
    protect(cheap)
    cheap.cli("lock")
    began = time.monotonic()
    for number in range(4):
        done = tell(cheap, "unlock", passphrase=f"wrong passphrase {number}")
        assert done.returncode == 3, done.stderr
        assert "opens no slot" in done.stderr
        assert "wrong passphrase" not in done.stdout + done.stderr
    assert time.monotonic() - began > 0.1 + 0.2 + 0.4
    assert told(cheap, "unlock")["outcome"] == "unlocked"
    tried = [line for line in cheap.audit() if line["action"] == "admin_unlock"]
    assert [line["result"] for line in tried] == ["DENIED"] * 4 + ["GRANTED"]
    assert {line["reason"] for line in tried[:4]} == {"wrong_passphrase"}
    cheap.assert_nowhere("wrong passphrase", WORDS)


def test_an_unused_vault_locks_itself(world: World) -> None:
    world.write_settings("[lock]\nidle_seconds = 0.4\n")
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    daemon.wait_log("not used for 0.4 s")
    assert talker.ask(read("a")) == failed("keychain_locked")
    assert "lock" in [line["action"] for line in world.audit()]


def test_use_keeps_it_open_but_not_for_ever(world: World) -> None:
    world.write_settings("[lock]\nidle_seconds = 3.0\nabsolute_seconds = 5.0\n")  # a busy machine may pause us
    program = world.granted("talker", "aws")
    began = time.monotonic()
    daemon = world.start()
    talker = world.talker(program)
    talker.ask(write({"a": "1"}))
    answers = []
    until(lambda: answers.append(talker.ask(read("a"))) or answers[-1] == failed("keychain_locked"), "it locks")
    assert time.monotonic() - began >= 5.0
    daemon.wait_log("open for 5 s")


@pytest.mark.parametrize("setting", ["idle_seconds = -1.0", "passphrase_seconds = nan", "idle = 3.0"])
def test_settings_that_cannot_be(world: World, setting: str) -> None:
    world.write_settings(f"[lock]\n{setting}\n")
    daemon = world.start(ready=False)
    assert daemon.wait() == 1
    assert "daemon.toml" in daemon.log


# --- who may have secrets, where a passphrase is set ------------------------------------------


def test_commands_with_secrets_ask_for_the_passphrase(cheap: World) -> None:
    cheap.start()
    cheap.cli("set", "aws", "key", input="secret")
    protect(cheap, key_file=True)
    for words in (
        ("get", "aws", "key"),
        ("set", "aws", "key"),
        ("list-secrets",),
        ("rm", "aws", "key"),
        ("history", "aws", "key"),
    ):
        done = cheap.cli(*words, input="overwritten")
        assert (done.returncode, done.stdout) == (5, ""), done
        assert "no terminal to ask on" in done.stderr
        assert "--passphrase-fd" in done.stderr
        done = tell(cheap, *words, passphrase="not the right one", stdin="overwritten")
        assert (done.returncode, done.stdout) == (3, "")
    assert tell(cheap, "get", "aws", "key").stdout == "secret"
    assert tell(cheap, "set", "aws", "key", stdin="other").returncode == 0
    assert tell(cheap, "get", "aws", "key").stdout == "other"
    refused = [(line["action"], line["targets"]) for line in cheap.audit() if line["reason"] == "passphrase_needed"]
    assert ("admin_read", ["key"]) in refused
    assert ("admin_delete", ["key"]) in refused
    assert cheap.cli_json("status")["pid"]  # which needs no passphrase


def test_a_passphrase_counts_for_one_connection(cheap: World) -> None:
    cheap.start()
    cheap.cli("set", "aws", "key", input="secret")
    protect(cheap, key_file=True)
    assert tell(cheap, "get", "aws", "key").stdout == "secret"
    assert cheap.cli("get", "aws", "key").returncode == 5


# --- slots ------------------------------------------------------------------------------------


def test_slots_are_listed_and_the_last_one_stays(cheap: World) -> None:
    cheap.start()
    assert cheap.cli_json("protect", "list")["slots"] == [{"number": 1, "kind": "keyfile"}]
    done = cheap.cli("protect", "remove", "1")
    assert (done.returncode, "last key slot" in done.stderr) == (2, True)
    assert os.path.exists(os.path.join(cheap.data_dir, "vault.key"))
    protect(cheap)
    assert [slot["kind"] for slot in cheap.cli_json("protect", "list")["slots"]] == ["passphrase"]
    assert tell(cheap, "protect", "remove", "2").returncode == 2
    assert tell(cheap, "protect", "remove", "9").returncode == 2
    # and back
    assert told(cheap, "protect", "add", "keyfile")["number"] == 3
    assert told(cheap, "protect", "remove", "2")["kind"] == "passphrase"
    assert cheap.cli("set", "aws", "key", input="secret").returncode == 0
    assert cheap.cli("get", "aws", "key").stdout == "secret"


@pytest.mark.parametrize("new", ["short", "\n"])
def test_a_bad_new_passphrase_changes_nothing(cheap: World, new: str) -> None:
    cheap.start()
    done = tell(cheap, "protect", "add", "passphrase", passphrase=None, new=new)
    assert done.returncode == 2
    assert len(cheap.cli_json("protect", "list")["slots"]) == 1
    assert cheap.cli_json("status")["policy"]["sealed"] is False


def test_the_recovery_code_opens_what_nothing_else_does(cheap: World) -> None:
    daemon = cheap.start()
    cheap.cli("set", "aws", "key", input="secret")
    protect(cheap)
    code = told(cheap, "protect", "add", "recovery")["code"]
    assert len(code) == 44
    daemon.stop()
    cheap.start()
    mistyped = ("1" if code[0] != "1" else "2") + code[1:]
    assert tell(cheap, "unlock", passphrase=mistyped).returncode == 3
    assert told(cheap, "unlock", passphrase=code.lower())["outcome"] == "unlocked"
    # Who has it can set a new passphrase, and have the secrets.
    told(cheap, "protect", "add", "passphrase", passphrase=code, new="another long passphrase")
    assert tell(cheap, "get", "aws", "key", passphrase="another long passphrase").stdout == "secret"
    cheap.assert_nowhere(code, WORDS)


def test_a_rekeyed_vault_serves_on(cheap: World) -> None:
    program = cheap.granted("talker", "aws")
    daemon = cheap.start()
    talker = cheap.talker(program)
    talker.ask(write({"a": "hunter2", "b": "x" * 20_000}))
    protect(cheap, key_file=True)
    code = told(cheap, "protect", "add", "recovery")["code"]
    assert tell(cheap, "rekey", passphrase="not the right one").returncode == 3
    fresh = told(cheap, "rekey")["code"]
    assert fresh != code
    expected = results({"target": "a", "value": "hunter2"}, {"target": "b", "value": "x" * 20_000})
    assert talker.ask(read("a", "b")) == expected
    daemon.stop()
    cheap.start()
    assert cheap.talker(program).ask(read("a", "b")) == expected
    assert cheap.cli("audit", "verify").returncode == 0
    cheap.cli("lock")
    assert tell(cheap, "unlock", passphrase=code).returncode == 3
    assert told(cheap, "unlock", passphrase=fresh)["outcome"] == "unlocked"


def test_json_of_the_audit_never_holds_a_code(cheap: World) -> None:
    cheap.start()
    code = told(cheap, "protect", "add", "recovery", passphrase=None)["code"]
    assert code not in json.dumps(cheap.audit())
    assert "admin_protect_add" in [line["action"] for line in cheap.audit()]


def test_a_forgotten_passphrase_beside_a_key_file(cheap: World) -> None:
    program = cheap.granted("talker", "aws")
    daemon = cheap.start()
    cheap.cli("set", "aws", "a", input="hunter2")
    protect(cheap, key_file=True)
    assert cheap.cli("protect", "remove", "2").returncode == 5  # the daemon asks for it
    daemon.stop()
    assert cheap.cli_json("protect", "remove", "2") == {"outcome": "removed", "number": 2, "kind": "passphrase"}
    assert cheap.cli("protect", "remove", "1").returncode == 2  # the last one
    cheap.start()
    assert cheap.cli("get", "aws", "a").stdout == "hunter2"
    assert cheap.cli_json("status")["policy"]["sealed"] is False
    assert cheap.talker(program).ask(read("a")) == results({"target": "a", "value": "hunter2"})
    assert "protect_remove" in [line["action"] for line in cheap.audit()]
    assert cheap.cli("audit", "verify").returncode == 0


def test_no_slot_is_removed_from_a_vault_that_only_a_person_opens(cheap: World) -> None:
    daemon = cheap.start()
    protect(cheap)
    told(cheap, "protect", "add", "recovery")
    daemon.stop()
    done = cheap.cli("protect", "remove", "2")
    assert (done.returncode, "the vault is locked" in done.stderr) == (5, True)
    assert cheap.cli("audit", "verify").returncode == 5  # nobody can be asked here
    assert tell(cheap, "audit", "verify").returncode == 0
    cheap.start()
    assert told(cheap, "unlock")["outcome"] == "unlocked"
