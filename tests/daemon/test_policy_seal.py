"""The sealed policy: with a passphrase set, what nobody accepted is not obeyed. Attacks first win without a seal."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from daemon.requests import PENDING, denied, read, results
from support.person import WORDS, protect, tell, told
from support.world import World

SECRET = {"target": "key", "value": "secret"}


@pytest.fixture
def cheap(world: World) -> World:
    """A running daemon with one secret; passphrases cost little."""
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    world.start()
    world.cli("set", "aws", "key", input="secret")
    return world


def sealed(world: World) -> World:
    protect(world, key_file=True)
    assert world.cli_json("status")["policy"]["sealed"] is True
    return world


def test_an_edit_that_nobody_accepted_is_not_obeyed(cheap: World) -> None:
    evil = cheap.granted("evil", "aws")
    assert cheap.talker(evil).ask(read("key")) == results(SECRET)  # without a seal the edit wins
    cheap.write_policy({"registered_binaries": []})
    sealed(cheap)

    cheap.allow(evil, ["aws"], [], True)
    assert cheap.talker(evil).ask(read("key")) == denied(PENDING)
    status = cheap.cli_json("status")["policy"]
    assert status["state"] == "last good"
    assert "nobody sealed" in status["problem"]
    assert cheap.cli("restart").stderr.endswith("Next: keychain-auth policy seal\n")
    assert [line["result"] for line in cheap.audit() if line["action"] == "policy_unsealed"] == ["ERROR"]
    shown = cheap.cli("status").stdout
    assert "IS NOT OBEYED" in shown
    assert "last good, sealed, 0 programs" in shown


def test_list_and_check_say_that_the_file_is_not_obeyed(cheap: World) -> None:
    sealed(cheap)
    program = cheap.granted("talker", "aws")
    for words in (("list",), ("check", program)):
        assert "this is the file; it is not obeyed: it was changed" in cheap.cli(*words).stderr
        assert "Next: keychain-auth policy seal" in cheap.cli(*words).stderr
        assert "nobody sealed" in cheap.cli_json(*words)["not_obeyed"]
    assert tell(cheap, "policy", "seal").returncode == 0
    assert cheap.cli("list").stderr == ""


def test_a_person_accepts_an_edit_after_seeing_it(cheap: World) -> None:
    sealed(cheap)
    program = cheap.granted("talker", "aws")
    assert cheap.talker(program).ask(read("key")) == denied(PENDING)
    wrong = tell(cheap, "policy", "seal", passphrase="not the right one")
    assert wrong.returncode == 3
    assert cheap.talker(program).ask(read("key")) == denied(PENDING)
    done = tell(cheap, "policy", "seal")
    assert done.returncode == 0, done.stderr
    assert f'+      "path": "{program}",' in done.stdout
    assert "sealed" in done.stdout
    assert cheap.talker(program).ask(read("key")) == results(SECRET)
    assert told(cheap, "policy", "seal")["outcome"] == "unchanged"
    assert "admin_policy_seal" in [line["action"] for line in cheap.audit()]
    assert cheap.cli_json("status")["policy"]["problem"] == ""


def test_removing_the_file_takes_nothing_away(cheap: World) -> None:
    program = cheap.granted("talker", "aws")
    sealed(cheap)
    os.unlink(cheap.policy_path)
    assert cheap.talker(program).ask(read("key")) == results(SECRET)
    assert "there is no such file" in cheap.cli_json("status")["policy"]["problem"]
    assert told(cheap, "policy", "seal")["outcome"] == "sealed"  # the person means it
    assert cheap.talker(program).ask(read("key")) == denied(PENDING)


def test_formatting_does_not_count(cheap: World) -> None:
    program = cheap.granted("talker", "aws")
    sealed(cheap)
    cheap.write(".config/keychain-auth/config.json", json.dumps(cheap.read_policy(), indent=7))
    assert cheap.talker(program).ask(read("key")) == results(SECRET)
    assert cheap.cli_json("status")["policy"]["problem"] == ""


def test_commands_seal_what_they_change(cheap: World) -> None:
    program = cheap.build_client()
    sealed(cheap)
    for words in (("register", program), ("authorize", program, "aws")):
        refused = cheap.cli(*words)
        assert (refused.returncode, "no terminal to ask on" in refused.stderr) == (5, True)
        assert tell(cheap, *words, passphrase="not the right one").returncode == 3
        before = cheap.read_policy()
        assert tell(cheap, *words).returncode == 0
        assert cheap.read_policy() != before
    assert cheap.talker(program).ask(read("key")) == results(SECRET)
    assert tell(cheap, "revoke", program).returncode == 0
    assert cheap.talker(program).ask(read("key"))["reason"] == "service_not_allowed"


def test_a_command_never_seals_somebody_elses_edit(cheap: World) -> None:
    """The person changes one thing; the edit that lay in wait beside it is not accepted with it."""
    sealed(cheap)
    evil, good = cheap.granted("evil", "aws", variant="other"), cheap.build_client("good")
    done = tell(cheap, "register", good)
    assert done.returncode == 1
    assert "holds a change that nobody sealed; nothing was changed" in done.stderr
    assert "Next: keychain-auth policy seal" in done.stderr
    assert good not in json.dumps(cheap.read_policy())
    assert cheap.talker(evil).ask(read("key")) == denied(PENDING)


def test_the_seal_outlives_the_daemon_and_the_file(cheap: World) -> None:
    """Edit while no daemon runs, with the key file still there: without a seal the next start obeyed it."""
    program = cheap.granted("talker", "aws")
    sealed(cheap)
    daemon = cheap._processes[0]
    daemon.stop()  # type: ignore[attr-defined]
    evil = cheap.granted("evil", "aws", variant="other")
    other = cheap.start()
    assert cheap.talker(evil).ask(read("key")) == denied(PENDING)
    assert cheap.talker(program).ask(read("key")) == results(SECRET)
    other.wait_log("nobody sealed the change")


def test_a_change_without_a_daemon_says_that_it_waits(cheap: World) -> None:
    sealed(cheap)
    cheap._processes[0].stop()  # type: ignore[attr-defined]
    program = cheap.build_client()
    done = cheap.cli("register", program)
    assert done.returncode == 0
    assert "the change waits to be sealed" in done.stderr
    cheap.start()
    assert cheap.talker(program).ask(read("key")) == denied(PENDING)


def test_a_revoked_grant_does_not_come_back_with_an_old_file(cheap: World) -> None:
    """A copy of config.json from before, put back: a seal inside the file would still fit it."""
    program = cheap.granted("talker", "aws")
    sealed(cheap)
    old = cheap.path("old.json")
    shutil.copy(cheap.policy_path, old)
    assert tell(cheap, "revoke", program).returncode == 0
    with open(old, encoding="utf-8") as file:
        cheap.write(".config/keychain-auth/config.json", file.read())
    assert cheap.talker(program).ask(read("key"))["reason"] == "service_not_allowed"


def test_while_it_is_locked_the_policy_cannot_be_changed_by_commands(cheap: World) -> None:
    sealed(cheap)
    cheap.cli("lock")
    done = tell(cheap, "register", cheap.build_client())
    assert (done.returncode, "keychain-auth unlock" in done.stderr) == (5, True)
    assert cheap.read_policy()["registered_binaries"] == []


def test_without_the_passphrase_the_file_is_obeyed_again(cheap: World) -> None:
    sealed(cheap)
    program = cheap.granted("talker", "aws")
    assert cheap.talker(program).ask(read("key")) == denied(PENDING)
    assert tell(cheap, "protect", "remove", "2").returncode == 0
    assert cheap.talker(program).ask(read("key")) == results(SECRET)
    done = cheap.cli("policy", "seal")
    assert (done.returncode, "only while a passphrase is set" in done.stderr) == (2, True)


def test_what_is_not_obeyed_cannot_be_sealed(cheap: World) -> None:
    cheap.write(".config/keychain-auth/config.json", "{")
    done = tell(cheap, "protect", "add", "passphrase", passphrase=None, new="a long enough passphrase")
    assert done.returncode == 2
    assert "is not obeyed at the moment" in done.stderr
    assert len(cheap.cli_json("protect", "list")["slots"]) == 1
    cheap.write_policy({"registered_binaries": []})
    sealed(cheap)
    cheap.write(".config/keychain-auth/config.json", "{")
    done = tell(cheap, "policy", "seal")
    assert done.returncode == 1
    assert "line 1" in done.stderr


def test_changes_by_commands_are_never_taken_for_edits(cheap: World) -> None:
    """The daemon accepts first, and the file follows: requests in between must not raise an alarm."""
    program = cheap.granted("talker", "aws")
    sealed(cheap)
    begun = len(cheap.audit())
    changes = cheap.spawn([cheap.python, "-c", MANY_CHANGES, cheap.policy_path, WORDS])
    assert changes.wait() == 0, changes.err.text()
    assert cheap.talker(program).ask(read("key")) == results(SECRET)
    lines = cheap.audit()[begun:]
    assert [line for line in lines if line["action"] in ("policy_unsealed", "policy_malformed")] == []
    told_changes = [line["detail"] for line in lines if line["action"] == "policy_change"]
    assert len(told_changes) == 15
    assert told_changes[7] == f"changed {program}: +write service-7, -write service-6"


def test_the_log_says_who_was_granted_what(cheap: World) -> None:
    program = cheap.build_client()
    sealed(cheap)
    for words in (("register", program), ("authorize", program, "aws", "--read"), ("require", "aws", "user")):
        assert tell(cheap, *words).returncode == 0
    details = [line["detail"] for line in cheap.audit() if line["action"] == "policy_change"]
    assert details == [
        f"added {program}: minimum grade user",
        f"changed {program}: +read aws",
        "aws asks for grade user",
    ]
    assert [line for line in cheap.audit() if line["action"] == "policy_unsealed"] == []


def test_the_text_of_before_is_an_edit_once_the_new_one_was_seen(cheap: World) -> None:
    program = cheap.granted("talker", "aws")
    sealed(cheap)
    with open(cheap.policy_path, encoding="utf-8") as file:
        before = file.read()
    assert tell(cheap, "revoke", program).returncode == 0
    assert cheap.cli_json("status")["policy"]["problem"] == ""
    cheap.write(".config/keychain-auth/config.json", before)
    assert cheap.talker(program).ask(read("key"))["reason"] == "service_not_allowed"
    assert "nobody sealed" in cheap.cli_json("status")["policy"]["problem"]


# What a command does, with a look of the daemon's at the file after each step.
MANY_CHANGES = """
import json, sys
from keychain_auth import files
from keychain_auth.client import admin, passphrase
path, passphrase._given = sys.argv[1:]
for number in range(15):
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    document["registered_binaries"][0]["allowed_write_services"] = [f"service-{number}"]
    text = json.dumps(document)
    admin.ask("policy-seal", value=text)
    assert admin.ask("status")["policy"]["problem"] == ""
    files.replace(path, text.encode())
    assert admin.ask("status")["policy"]["problem"] == ""
"""


def test_expected_open_a_restored_backup_grants_again_what_was_revoked_and_says_so(cheap: World) -> None:
    """What is accepted lies in the vault, and so in a backup of it."""
    program = cheap.granted("talker", "aws")
    sealed(cheap)
    backup = cheap.path("vault.backup")
    told(cheap, "backup", backup, "--backup-passphrase-fd", "0", stdin="of the backup")
    told(cheap, "revoke", program, "aws")
    assert cheap.talker(program).ask(read("key")) == denied("service_not_allowed")
    cheap._processes[0].stop()  # type: ignore[attr-defined]
    done = cheap.cli("restore", backup, "--backup-passphrase-fd", "0", input="of the backup")
    assert done.returncode == 0, done.stderr
    assert "the policy that was accepted when this backup was made is obeyed again" in done.stderr
    cheap.start()
    assert cheap.talker(program).ask(read("key")) == results(SECRET)
    told(cheap, "policy", "seal")  # as the warning says
    assert cheap.talker(program).ask(read("key")) == denied("service_not_allowed")
