"""One user against the others of the machine: an attack wins where a user may have all of it, and loses to a share."""

from __future__ import annotations

import json

import pytest

from daemon.requests import PENDING, SUCCESS, denied, failed, read, request, results, write
from support import users
from support.system import SystemWorld
from support.talker import Talker
from support.users import Account
from support.waiting import Onlooker
from support.world import World

pytestmark = pytest.mark.skipif(not users.may_be_root(), reason="only root can make a daemon for the whole machine")
LIMITED = failed("rate_limited")


def started(machine: SystemWorld, settings: str) -> str:
    """A program that everybody may use, and a daemon with these settings."""
    machine.settings(settings)
    program = machine.program("talker")
    machine.allow(machine.world.entry(program, ["aws"], ["aws"], True))
    machine.start()
    return program


@pytest.mark.parametrize(("share", "wins"), [(1000, True), (4, False)])
def test_connections(machine: SystemWorld, ann: Account, bob: Account, share: int, wins: bool) -> None:
    program = started(machine, f"[limits]\nconnections = 8\n[users]\nconnections = {share}\n")
    anns: list[Talker] = []
    for _ in range(8):
        anns.append(machine.talker(program, ann))
        if anns[-1].ask(read("x")) == LIMITED:
            break
    assert len(anns) == (8 if wins else 5)
    assert machine.talker(program, bob).ask(read("x")) == (LIMITED if wins else results())
    anns[0].close()
    assert machine.talker(program, bob).ask(read("x")) == results()


@pytest.mark.parametrize(("share", "wins"), [(1000, True), (1, False)])
def test_places_to_wait_in(machine: SystemWorld, ann: Account, bob: Account, share: int, wins: bool) -> None:
    started(machine, f"[limits]\nwaiting = 2\n[users]\nwaiting = {share}\n")
    unknown = machine.program("unknown", "unknown")
    look, places = Onlooker(machine.world, machine.socket), 0
    for account, answered in zip((ann, ann, bob), (False, not wins, wins), strict=True):
        talker = machine.asking(read("x", wait=600), unknown, account)
        if answered:
            assert talker.answer() == denied(PENDING)
        else:
            places += 1
            look.until(programs=None, connections=places)
            assert talker.answers() == []


def test_what_is_stored(machine: SystemWorld, ann: Account, bob: Account) -> None:
    program = started(machine, "[users]\nsecrets = 3\nstored_bytes = 5000\n")
    anns, bobs = machine.talker(program, ann), machine.talker(program, bob)
    assert anns.ask(write({"a": "1", "b": "2"})) == SUCCESS
    assert anns.ask(write({"c": "3", "d": "4"})) == LIMITED  # all of it, or nothing
    assert anns.ask(read("c", "d")) == results()
    assert anns.ask(write({"a": "other", "b": "values", "c": "3"})) == SUCCESS
    assert anns.ask(write({"c": "x" * 6000})) == LIMITED
    assert bobs.ask(write({"a": "x" * 4000})) == SUCCESS
    assert machine.cli("set", f"@{ann.uid}:aws", "by root", input="x").returncode == 0  # root is not counted …
    assert anns.ask(write({"a": "y"})) == LIMITED  # … but what is there is
    assert machine.cli("restart").returncode == 0
    again = machine.talker(program, ann)
    assert again.ask(write({"a": "y"})) == LIMITED
    assert again.ask({"type": "REQUEST", "action": "delete", "service": "aws", "targets": ["b", "by root"]}) == SUCCESS
    assert again.ask(write({"a": "y"})) == SUCCESS
    reasons = {line["reason"] for line in machine.audit() if line["result"] == "ERROR"}
    assert reasons == {"rate_limited"}


def test_expected_open_a_thousand_deletions_end_what_others_may_restore(
    machine: SystemWorld, ann: Account, bob: Account
) -> None:
    program = started(machine, "")
    bobs, anns = machine.talker(program, bob), machine.talker(program, ann)
    assert bobs.ask(write({"mine": "of bob"})) == SUCCESS
    assert bobs.ask(request("delete", targets=["mine"])) == SUCCESS
    back = ("restore-value", f"@{bob.uid}:aws", "mine", "1")
    assert machine.cli("history", *back[1:3]).returncode == 0
    assert anns.ask(write({f"n{number}": "" for number in range(1000)})) == SUCCESS
    assert anns.ask(request("delete", targets=["n"], match="prefix")) == SUCCESS
    assert machine.cli(*back).returncode == 6


def test_expected_open_what_is_granted_pushes_the_record_out(machine: SystemWorld, ann: Account, bob: Account) -> None:
    program = started(machine, "[audit]\nmax_bytes = 20000\nkeep = 1\n")
    assert machine.talker(program, bob).ask(write({"mine": "of bob"})) == SUCCESS
    anns = machine.talker(program, ann)
    names = [f"a long name that is on record each time {number}" for number in range(30)]
    for _ in range(40):
        assert anns.ask(read(*names)) == results()
    assert {line["uid"] for line in machine.audit() if line["action"] == "read"} == {ann.uid}
    assert bob.uid not in {
        line.get("uid") for line in json.loads(machine.cli("audit", "tail", "-n", "10000", "--json").stdout)
    }


def test_a_daemon_of_one_user_has_no_shares(world: World) -> None:
    world.write_settings("[users]\nconnections = 1\nsecrets = 1\n")
    program = world.granted("talker", "aws")
    world.start()
    talkers = [world.talker(program) for _ in range(3)]
    for talker in talkers:
        assert talker.ask(write({"a": "1", "b": "2"})) == SUCCESS
