"""doctor: each check sees what is wrong, says how to mend it, and the mending mends it."""

from __future__ import annotations

import os
import shlex
import signal
from typing import Any

import click
import msgspec
import pytest

from daemon.requests import denied, read
from docs.test_docs import invocations, parse
from keychain_auth.cli.app import commands
from keychain_auth.cli.commands.doctoring.checks import CHECKS, OF_THE_KERNEL, Checked, Level, examine
from keychain_auth.cli.commands.doctoring.facts import DaemonFact, Facts, LeakyProgram, PathFact, ProgramFact
from keychain_auth.platform.remedies import Remedies
from support.world import World

NOW = 1_800_000_000.0
DAEMON = DaemonFact("0.1.0", 42, NOW - 100, keychains={"vault": {"backend": "vault", "open": True}})
WELL = Facts(
    now=NOW, uid=1000, version="0.1.0", code_changed=NOW - 1000, socket_path="/run/agent.sock", daemon=DAEMON,
    remedies=Remedies("set the clock", "see the disk", "lock memory", "keychain-auth restart"),
    slots={1: "passphrase", 2: "recovery"}, newest_record=NOW - 1, free_bytes=10**9, data_folder="/var/data",
)  # fmt: skip
PRIVATE = PathFact("/home/me/vault.key", "file", "file", 1000, 0o600, secret=True, aside="mv it away")


def findings(check: str, **facts: Any) -> list[Checked]:
    """What one check says when these facts are not well; all other checks must find nothing."""
    found = examine(msgspec.structs.replace(WELL, **facts))
    assert {one.check for one in found if one.level is not Level.OK} <= {check}, found
    return [one for one in found if one.check == check]


def test_nothing_is_wrong_where_all_is_well_and_every_check_says_so() -> None:
    found = examine(WELL)
    assert [one.check for one in found] == list(CHECKS)
    assert {one.level for one in found} == {Level.OK}


@pytest.mark.parametrize(
    ("check", "facts", "level", "says", "mend"),
    [
        ("version", {"version": "0.2.0"}, "wrong", "0.1.0", "keychain-auth restart"),
        ("version", {"version": "0.2.0", "daemon": msgspec.structs.replace(DAEMON, unit="keychain-auth.service")},
         "wrong", "not restarted", "systemctl --user restart keychain-auth"),
        ("version", {"code_changed": NOW - 10}, "wrong", "newer than the running", "keychain-auth restart"),
        ("settings", {"settings_problem": "no", "settings_path": "/a b"}, "wrong", "no daemon starts", "edit '/a b'"),
        ("policy", {"policy_problem": "line 3", "policy_path": "/c"}, "wrong", "line 3", "edit /c"),
        ("policy", {"daemon": msgspec.structs.replace(DAEMON, policy_problem="unsealed")}, "wrong", "unsealed",
         "keychain-auth policy seal"),
        ("permissions", {"paths": (msgspec.structs.replace(PRIVATE, mode=0o640),)}, "wrong", "can read",
         "chmod 600 /home/me/vault.key"),
        ("permissions", {"paths": (msgspec.structs.replace(PRIVATE, mode=0o620),)}, "wrong", "can write",
         "chmod 600 /home/me/vault.key"),
        ("permissions", {"paths": (msgspec.structs.replace(PRIVATE, uid=7),)}, "wrong", "another user",
         "chown 1000 /home/me/vault.key"),
        ("permissions", {"paths": (msgspec.structs.replace(PRIVATE, kind="folder"),)}, "wrong", "not a file",
         "mv it away"),
        ("permissions", {"paths": (msgspec.structs.replace(PRIVATE, problem="a list says", mend="icacls"),)}, "wrong",
         "a list says", "icacls"),
        ("permissions", {"paths": (PathFact("/d", "folder", "folder", 1000, 0o750),)}, "wrong", "can read",
         "chmod 700 /d"),
        ("permissions", {"paths": (PathFact("/c.json", "file", "file", 1000, 0o644),)}, "advice", "only its folder",
         "chmod 600 /c.json"),
        ("disk", {"free_bytes": 1024}, "wrong", "no secret is given out", "see the disk"),
        ("disk", {"free_bytes": None}, "unknown", "cannot be told", ""),
        ("interpreters", {"programs": (ProgramFact("/usr/bin/python3", bare=True),)}, "wrong", "grants nothing",
         "keychain-auth unregister /usr/bin/python3"),
        ("programs", {"programs": (ProgramFact("/t", "hash: …", "keychain-auth upgrade /t"),)}, "wrong", "hash: …",
         "keychain-auth upgrade /t"),
        ("close-on-exec", {"leaky": (LeakyProgram("/t", 3, "2026-01-01T00:00:00Z"),)}, "wrong", "refused 3 times",
         "keychain-auth audit search --program /t --denied"),
        ("canaries", {"daemon": msgspec.structs.replace(DAEMON, held=("/t",))}, "wrong", "find out why",
         "keychain-auth canary release /t"),
        ("slots", {"vault_problem": "damaged"}, "wrong", "damaged", "keychain-auth vault check"),
        ("slots", {"slots": {1: "keyfile"}}, "advice", "not a program that runs as you",
         "keychain-auth protect add passphrase"),
        ("slots", {"slots": {1: "keyfile", 2: "passphrase", 3: "recovery"}}, "advice", "Slot 1",
         "keychain-auth protect remove 1"),
        ("slots", {"slots": {2: "passphrase"}}, "advice", "no recovery code", "keychain-auth protect add recovery"),
        ("keychains", {"daemon": msgspec.structs.replace(DAEMON, locked="never unlocked")}, "wrong", "never unlocked",
         "keychain-auth unlock"),
        ("keychains", {"daemon": msgspec.structs.replace(DAEMON, keychains={"x": {"problem": "gone"}})}, "wrong",
         "keychain x", "keychain-auth status"),
        ("keychains", {"daemon": msgspec.structs.replace(
            DAEMON, keychains={"x": {"problem": "gone"}}, unrouted=("x",))},
         "advice", "no program needs it", "keychain-auth status"),
        ("keychains", {"daemon": msgspec.structs.replace(
            DAEMON, keychains={"s": {"problem": "no bus", "backend": "secret-service"}})},
         "wrong", "no bus", "log in to the desktop, or start its keyring (gnome-keyring, KWallet, KeePassXC)"),
        ("audit", {"audit_problem": "a folder"}, "wrong", "a folder", "keychain-auth audit verify"),
        ("audit", {"daemon": msgspec.structs.replace(DAEMON, audit_waiting=4)}, "advice", "4 lines",
         "keychain-auth unlock"),
        ("clock", {"newest_record": NOW + 60}, "wrong", "60 s in the future", "set the clock"),
        ("clock", {"clock_synchronised": False}, "advice", "goes by it", "set the clock"),
        ("tracing", {"yama": 0}, "advice", "look into the memory", "sudo sysctl -w kernel.yama.ptrace_scope=1"),
        ("tracing", {"yama": None}, "advice", "no Yama", "boot a kernel with CONFIG_SECURITY_YAMA and lsm=…,yama"),
        ("tracing", {"yama": 2, "programs": (ProgramFact("/s.py", script=True),)}, "wrong", "none is launched",
         "sudo sysctl -w kernel.yama.ptrace_scope=1"),
        ("namespaces", {"user_namespaces": True}, "advice", "PR_SET_MM", "sudo sysctl -w user.max_user_namespaces=0"),
        ("kernel", {"socket_diagnosis": False}, "wrong", "who holds a socket", "modprobe unix_diag"),
        ("kernel", {"missing": ("this kernel has no x",)}, "advice", "no x", ""),
    ],
)  # fmt: skip
def test_each_check_sees_its_own_and_says_what_mends_it(
    check: str, facts: dict[str, Any], level: str, says: str, mend: str
) -> None:
    [finding] = [one for one in findings(check, **facts) if one.level is not Level.OK]
    assert (finding.level, finding.mend) == (level, mend)
    assert says in finding.says
    for words in invocations(mend):  # a command that is proposed is one that there is
        parse(commands, "keychain-auth", list(words), whole=True)


def test_what_a_system_has_not_is_not_looked_at() -> None:
    found = examine(msgspec.structs.replace(WELL, kernel=False, yama=None, user_namespaces=True))
    assert [one.check for one in found] == [name for name in CHECKS if name not in OF_THE_KERNEL]


def test_a_daemon_that_nobody_can_ask_leaves_questions_open() -> None:
    found = examine(msgspec.structs.replace(WELL, socket="left over", daemon=None))
    levels = {one.check: one.level for one in found}
    assert levels["socket"] is Level.WRONG
    assert {name for name, level in levels.items() if level is Level.UNKNOWN} == {"version", "keychains", "key-memory"}


# --- the whole ----------------------------------------------------------------------------------


def wrong(world: World, *words: str) -> dict[str, str]:
    """What doctor calls wrong now: check to the command that mends it. Its exit code must agree."""
    done = world.cli("doctor", "--json", *words)
    answer = msgspec.json.decode(done.stdout)
    found = {one["check"]: one["mend"] for one in answer["checks"] if one["level"] == "wrong"}
    assert (done.returncode, answer["healthy"]) == ((1, False) if found else (0, True)), done.stderr
    assert {one["check"] for one in answer["checks"]} == set(CHECKS)
    return found


def run_mend(world: World, mend: str) -> None:
    """Type what was proposed, as far as it is a command of ours or of the shell."""
    words = shlex.split(mend)
    if words[0] == "keychain-auth":
        done = world.cli(*words[1:])
        assert done.returncode == 0, done.stderr
    else:
        assert words[0] == "chmod"
        os.chmod(words[2], int(words[1], 8))


def test_a_healthy_installation_is_called_healthy(running: World) -> None:
    running.granted("talker", "aws")
    assert wrong(running) == {}
    done = running.cli("doctor")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("0 wrong, ")
    assert running.cli("doctor", "--strict").returncode == 1  # a key file is advice at least
    quiet = running.cli("doctor", "--quiet").stdout
    assert "keychain-auth protect add passphrase" in quiet
    assert "\nok " not in quiet


def test_before_the_first_start_only_the_daemon_is_missing(world: World) -> None:
    assert wrong(world) == {"socket": "keychain-auth start"}


def test_a_socket_that_a_killed_daemon_left_is_told_from_none(world: World) -> None:
    world.start().kill()
    assert wrong(world) == {"socket": "keychain-auth start"}
    assert "nobody listens on" in world.cli("doctor").stdout


def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever(world: World) -> None:
    """A stopped process accepts nothing; the command says so after its own time."""
    code = (
        "import sys; from keychain_auth.cli.commands.doctoring import gather; gather._STATUS_SECONDS = 0.3;"
        "from keychain_auth.cli.app import run; sys.exit(run(['doctor', '--json']))"
    )
    daemon = world.start()
    daemon.signal(signal.SIGSTOP)
    process = world.spawn([world.python, "-c", code])
    assert process.wait() == 1
    daemon.signal(signal.SIGCONT)
    told = msgspec.json.decode(process.out.text())["checks"]
    assert [one["says"] for one in told if one["check"] == "socket"] == [
        "the keychain-auth daemon gave no complete answer within 0.3 s"
    ]


def test_permissions_programs_and_interpreters_are_found_and_mended(running: World) -> None:
    program = running.granted("talker", "aws")
    gone = running.granted("gone", "aws", variant="gone")
    policy = running.read_policy()
    policy["registered_binaries"].append({"path": "/usr/bin/python3", "hash": "0" * 64})
    running.write_policy(policy)
    running.build_client("talker", "newer")
    os.unlink(gone)
    os.chmod(os.path.join(running.data_dir, "vault.key"), 0o644)
    done = running.cli("doctor", "--json")
    mends = [one["mend"] for one in msgspec.json.decode(done.stdout)["checks"] if one["level"] == "wrong"]
    assert mends == [
        f"chmod 600 {running.data_dir}/vault.key",
        "keychain-auth unregister /usr/bin/python3",
        f"keychain-auth upgrade {program}",
        f"keychain-auth unregister {gone}",
    ]
    for mend in mends:
        run_mend(running, mend)
    assert wrong(running) == {}


def test_a_policy_that_nobody_obeys_is_named_with_its_line(running: World) -> None:
    running.write(".config/keychain-auth/config.json", '{\n"registered_binaries": [7]}')
    assert wrong(running) == {"policy": f"edit {running.policy_path}"}
    assert "line 2" in running.cli("doctor").stdout


def test_settings_with_which_no_daemon_would_start_are_named(running: World) -> None:
    running.write_settings("strickt = true\n")
    assert list(wrong(running)) == ["settings"]


def test_a_program_that_leaks_its_descriptor_is_named(running: World) -> None:
    program = running.granted("talker", "aws")
    assert running.talker(program, "--inheritable").ask(read("a")) == denied("socket_not_cloexec")
    assert wrong(running) == {"close-on-exec": f"keychain-auth audit search --program {program} --denied"}


def test_an_old_daemon_is_told_to_be_restarted(world: World) -> None:
    code = (
        "import keychain_auth; keychain_auth.__version__ = '0.0.9'\n"
        f"from keychain_auth.cli.main import main; main(['start', '--socket', {world.socket!r}])"
    )
    daemon = world.spawn([world.python, "-c", code])
    daemon.err.find(lambda line: b"listening" in line)
    assert wrong(world) == {"version": "keychain-auth restart"}
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


def test_an_unknown_word_is_wrong_usage() -> None:
    with pytest.raises(click.UsageError):
        parse(commands, "keychain-auth", ["doctor", "--mend"], whole=True)
