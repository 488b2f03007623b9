"""One daemon for the whole machine: whose secrets are whose, who administers it, and what it may do itself."""

from __future__ import annotations

import json
import os
import stat

import pytest

from daemon.requests import SUCCESS, denied, read, request, results, write
from support import users
from support.system import SystemWorld
from support.users import Account
from support.world import sha256_of

pytestmark = pytest.mark.skipif(not users.may_be_root(), reason="only root can make a daemon for the whole machine")
CAPABILITIES = (1 << 2) | (1 << 19) | (1 << 28)  # CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_LEASE


def entry(machine: SystemWorld, program: str, *services: str, **more: object) -> dict[str, object]:
    return machine.world.entry(program, services, services, True, **more)


def test_each_user_has_secrets_of_their_own(machine: SystemWorld, ann: Account, bob: Account) -> None:
    program = machine.program("talker")
    machine.allow(entry(machine, program, "aws"))
    machine.start()
    anns, bobs = machine.talker(program, ann), machine.talker(program, bob)
    assert anns.ask(write({"key": "of ann"})) == SUCCESS
    assert bobs.ask(read("key")) == results()
    assert bobs.ask(write({"key": "of bob"})) == SUCCESS
    assert anns.ask(read("key")) == results({"target": "key", "value": "of ann"})
    assert anns.ask(request("search")) == results({"target": "key"})
    assert bobs.ask(request("delete", targets=[""], match="prefix"))["status"] == "error"
    assert bobs.ask(request("delete", targets=["k"], match="prefix")) == SUCCESS
    assert anns.ask(read("key")) == results({"target": "key", "value": "of ann"})
    uids = {line["uid"] for line in machine.audit() if line["action"] == "write"}
    assert uids == {ann.uid, bob.uid}


def test_no_name_leads_to_another_users_secrets(machine: SystemWorld, ann: Account, bob: Account) -> None:
    program = machine.program("talker")
    theirs = f"@{ann.uid}:aws"
    machine.allow(entry(machine, program, "aws", theirs))
    machine.start()
    assert machine.talker(program, ann).ask(write({"key": "of ann"})) == SUCCESS
    bobs = machine.talker(program, bob)
    assert bobs.ask(read("key", service=theirs)) == results()
    assert bobs.ask(request("search", service=theirs)) == results()


def test_a_shared_service_is_the_same_for_all(machine: SystemWorld, ann: Account, bob: Account) -> None:
    program = machine.program("talker")
    machine.allow(entry(machine, program, "aws"))
    machine.start()
    assert machine.cli("share", "aws").returncode == 0
    assert machine.talker(program, ann).ask(write({"key": "of all"})) == SUCCESS
    bobs = machine.talker(program, bob)
    assert bobs.ask(read("key")) == results({"target": "key", "value": "of all"})
    assert machine.cli("share", "aws", "--off").returncode == 0
    assert bobs.ask(read("key")) == results()  # at once, on an open connection


def test_an_entry_counts_for_the_users_that_it_names(machine: SystemWorld, ann: Account, bob: Account) -> None:
    program = machine.program("talker")
    machine.allow(entry(machine, program, "aws", users=[ann.name]))
    machine.start()
    anns = machine.talker(program, ann)
    assert anns.ask(read("key")) == results()
    assert machine.talker(program, bob).ask(read("key")) == denied("user_not_allowed")
    assert machine.cli("register", program, "--user", str(bob.uid)).returncode == 0
    assert anns.ask(read("key")) == denied("user_not_allowed")
    assert machine.talker(program, bob).ask(read("key")) == results()
    assert machine.cli("register", program, "--all-users").returncode == 0
    assert machine.talker(program, ann).ask(read("key")) == results()


def test_root_administers_it_and_what_root_writes_is_the_daemons(machine: SystemWorld, ann: Account) -> None:
    program = machine.program("talker")
    machine.start()
    talker = machine.talker(program, ann)
    assert talker.ask(read("key"))["reason"] == "unregistered_binary_pending_approval"
    assert program in machine.cli("list-pending").stdout
    done = machine.cli("approve", sha256_of(program).removeprefix("sha256:"), "--read", "aws")
    assert done.returncode == 0, done.stderr
    assert machine.cli("set", f"@{ann.uid}:aws", "key", input="from root").returncode == 0
    assert machine.talker(program, ann).ask(read("key")) == results({"target": "key", "value": "from root"})
    for folder, _, names in os.walk(machine.root):
        for path in (os.path.join(folder, name) for name in names):
            if "/run/" not in path and "/bin/" not in path:
                assert os.stat(path).st_uid == machine.world.user.uid, path


def test_nobody_else_administers_it(machine: SystemWorld, ann: Account) -> None:
    machine.start()
    admin = machine.path("run/keychain-auth/admin.sock")
    about = os.stat(admin)
    assert stat.S_IMODE(about.st_mode) == 0o600
    assert about.st_uid == machine.world.user.uid
    done = machine.cli("status", account=ann)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    os.chmod(admin, 0o666)  # as if somebody had opened it
    done = machine.cli("status", account=ann)
    assert done.returncode == 3
    assert "user_not_allowed" in done.stderr


def test_the_daemon_may_look_and_nothing_else(machine: SystemWorld) -> None:
    daemon = machine.start()
    assert daemon.status("Uid").split() == [str(machine.world.user.uid)] * 4
    assert daemon.status("Groups") == ""
    for field in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(daemon.status(field), 16) == CAPABILITIES, field
    assert daemon.status("NoNewPrivs") == "1"


def test_a_program_in_a_private_home_is_known_too(machine: SystemWorld, ann: Account) -> None:
    home = machine.path("home")
    os.mkdir(home, 0o700)
    ann.own(home)
    program = machine.program("talker")
    hidden = os.path.join(home, "mine")
    os.rename(program, hidden)
    ann.own(hidden)
    machine.allow(entry(machine, hidden, "aws"))
    machine.start()
    assert machine.talker(hidden, ann).ask(write({"a": "1"})) == SUCCESS
    assert machine.cli("upgrade", hidden).returncode == 0


def test_it_is_restarted_with_its_sockets_and_its_few_capabilities(machine: SystemWorld, ann: Account) -> None:
    program = machine.program("talker")
    machine.allow(entry(machine, program, "aws"))
    daemon = machine.start()
    assert machine.talker(program, ann).ask(write({"a": "1"})) == SUCCESS
    inode = os.stat(machine.socket).st_ino
    done = machine.cli("restart")
    assert done.returncode == 0, done.stderr
    assert os.stat(machine.socket).st_ino == inode
    assert int(daemon.status("CapEff"), 16) == CAPABILITIES
    assert machine.talker(program, ann).ask(read("a")) == results({"target": "a", "value": "1"})


def test_its_settings_count_as_they_were_accepted(machine: SystemWorld, ann: Account) -> None:
    """Whoever gets at root's file of settings for a moment does not have the daemon."""
    program = machine.program("talker")
    machine.allow(entry(machine, program, "aws"))
    daemon = machine.start()
    assert machine.talker(program, ann).ask(write({"a": "1"})) == SUCCESS
    done = machine.cli(
        "protect", "add", "passphrase", "--new-passphrase-fd", "0", input="six random words are better\n"
    )
    assert done.returncode == 0, done.stderr
    machine.settings("strict = true\n")
    daemon.kill()
    daemon.wait()
    daemon = machine.start()
    status = json.loads(machine.cli("status", "--json").stdout)
    assert (status["pid"], status["settings"]["state"]) == (daemon.pid, "last accepted")
    assert int(daemon.status("CapEff"), 16) == CAPABILITIES
    assert machine.talker(program, ann).ask(read("a")) == results({"target": "a", "value": "1"})
    done = machine.cli("policy", "seal", "--passphrase-fd", "0", input="six random words are better\n")
    assert done.returncode == 0, done.stderr
    assert "+strict = true" in done.stdout
    assert machine.cli("restart").returncode == 0
    assert json.loads(machine.cli("status", "--json").stdout)["settings"]["state"] == "as accepted"


def test_clients_find_it_where_they_have_no_daemon_of_their_own(machine: SystemWorld, ann: Account) -> None:
    """The library looks who listens: root, in a folder of root's."""
    from keychain_auth.client.trust import why_not

    machine.start()
    about = os.stat(os.path.dirname(machine.socket))
    assert why_not(0, about.st_uid, about.st_mode, ann.uid, "x") is None
    assert os.stat(machine.socket).st_uid == 0


def test_doctor_and_check_know_what_is_right_there(machine: SystemWorld) -> None:
    program = machine.program("talker")
    machine.allow(entry(machine, program, "aws", guarded=True))
    machine.start()
    done = machine.cli("doctor", "--quiet")
    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert wrong == []
    assert "stops every program but root's" in machine.cli("doctor").stdout
    assert "stops every program but root's" in machine.cli("status").stdout
    assert "stops every program but root's" in machine.cli("protect", "list").stdout
    assert machine.cli("check", program, "aws").returncode == 0
    os.chmod(machine.path("var/lib/keychain-auth"), 0o755)
    assert "other users can read" in machine.cli("doctor").stdout


def test_a_data_folder_of_root_or_of_nobody_is_refused(machine: SystemWorld) -> None:
    os.chown(machine.path("var/lib/keychain-auth"), 0, 0)
    done = machine.cli("start")
    assert done.returncode == 1
    assert "the daemon's own user" in done.stderr
    os.rmdir(machine.path("var/lib/keychain-auth"))
    assert "Next: sudo keychain-auth install --system" in machine.cli("start").stderr
