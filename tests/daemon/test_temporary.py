"""Grants that end, with a real daemon: the time, the count, restarts, what is on record and what is told."""

from __future__ import annotations

import concurrent.futures
import time

import pytest

from daemon.requests import SUCCESS, denied, failed, read, request, results, write
from support.daemon import Daemon
from support.lines import until
from support.person import protect, tell
from support.world import World

TOKEN = {"target": "token", "value": "s3cret"}
ENDED = denied("grant_ended")


@pytest.fixture
def daemon(world: World) -> Daemon:
    started = world.start()
    world.cli("set", "aws", "token", input="s3cret")
    world.cli("set", "aws", "other", input="another")
    return started


@pytest.fixture
def program(world: World, daemon: Daemon) -> str:
    """A program that may do nothing."""
    path = world.build_client()
    world.allow(path)
    return path


def grant(world: World, program: str, *options: str) -> dict[str, object]:
    given = world.cli_json("authorize", program, "aws", *options)["grant"]
    assert isinstance(given, dict)
    return given


def test_uses_are_counted_and_then_it_is_over(world: World, program: str) -> None:
    grant(world, program, "--uses", "2", "--target", "token")
    talker = world.talker(program)
    assert talker.ask(read("other")) == denied("target_not_allowed")  # costs no use
    assert talker.ask(write({"token": "x"})) == denied("service_not_allowed")
    assert talker.ask(read("token")) == results(TOKEN)
    [entry] = world.cli_json("list")["entries"]
    assert entry["temporary_grants"][0]["left"] == 1
    assert "1 of 2 uses left" in world.cli("list").stdout
    assert world.cli_json("check", program, "aws", "--read")["allowed"]
    assert talker.ask(read("token")) == results(TOKEN)
    assert talker.ask(read("token")) == ENDED
    assert world.talker(program).ask(read("token")) == ENDED
    done = world.cli("check", program, "aws", "--read")
    assert done.returncode == 3
    assert "a grant for 2 uses, all of them used" in done.stdout
    assert f"Next: keychain-auth authorize {program} aws --read --target token --uses 2" in done.stdout
    lines = [line for line in world.audit() if line["action"] == "temporary"]
    assert [line["detail"].split(",")[0] for line in lines] == ["use 1 of 2", "use 2 of 2"]
    assert {(line["binary_path"], line["service"], *line["targets"]) for line in lines} == {(program, "aws", "token")}


def test_explain_names_the_line_of_the_grant(world: World, program: str) -> None:
    grant(world, program, "--uses", "1", "--target", "token")
    said = world.cli_json("explain", program, "aws", "token", "--action", "read")["actions"]["read"]
    assert said["granted"]
    assert [line["field"] for line in said["lines"]] == ["$.registered_binaries[0].temporary_grants[0]"]
    world.talker(program).ask(read("token"))
    done = world.cli("explain", program, "aws", "token", "--action", "read")
    assert done.returncode == 3
    assert "refused, grant_ended" in done.stdout
    assert "temporary_grants" in done.stdout


def test_the_command_that_mends_it_does(world: World, daemon: Daemon, program: str) -> None:
    grant(world, program, "--uses", "1", "--for", "10m")
    talker = world.talker(program)
    assert talker.ask(read("token")) == results(TOKEN)
    assert talker.ask(read("token")) == ENDED
    said = daemon.wait_log("grant_ended")
    mend = said.partition('mend="keychain-auth ')[2].partition('"')[0]
    assert mend == f"authorize {program} aws --read --for 10m --uses 1"
    assert world.cli(*mend.split()).returncode == 0
    assert talker.ask(read("token")) == results(TOKEN)


def test_a_time_ends_on_a_connection_that_is_open(world: World, program: str) -> None:
    talker = world.talker(program)
    assert talker.ask(read("token")) != results(TOKEN)
    given = grant(world, program, "--for", "5s")  # the command that gives it ends in that time
    assert talker.ask(read("token")) == results(TOKEN)
    until(lambda: talker.ask(read("token")) == ENDED, "its time is over")
    assert (
        time.time() >= time.mktime(time.strptime(f"{given['expires_at']} UTC", "%Y-%m-%dT%H:%M:%SZ %Z")) - time.timezone
    )


def test_a_restart_gives_no_use_back(world: World, daemon: Daemon, program: str) -> None:
    grant(world, program, "--uses", "2")
    assert world.talker(program).ask(read("token")) == results(TOKEN)
    daemon.expected_to_end = True
    daemon.kill()
    world.start()
    talker = world.talker(program)
    assert talker.ask(read("token")) == results(TOKEN)
    assert talker.ask(read("token")) == ENDED


def test_many_at_once_get_no_more_than_there_are(world: World, program: str) -> None:
    grant(world, program, "--uses", "5")
    talkers = [world.talker(program) for _ in range(4)]
    for talker in talkers:
        talker.send(*[read("token")] * 5)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda talker: [talker.answer() for _ in range(5)], talkers))
    flat = [answer for each in answers for answer in each]
    assert flat.count(results(TOKEN)) == 5
    assert flat.count(ENDED) == 15


def test_it_writes_and_deletes_if_told(world: World, program: str) -> None:
    grant(world, program, "--uses", "2", "--write")
    talker = world.talker(program)
    assert talker.ask(read("token")) == denied("service_not_allowed")
    assert talker.ask(write({"token": "new"})) == SUCCESS
    assert talker.ask(request("delete", targets=["token"])) == SUCCESS
    assert talker.ask(request("delete", targets=["token"])) == ENDED


def test_what_is_granted_for_good_costs_no_use(world: World, program: str) -> None:
    world.allow(program, ["aws"], temporary_grants=[{"id": "abcdef01", "service": "aws", "read": True, "uses": 1}])
    talker = world.talker(program)
    for _ in range(3):
        assert talker.ask(read("token")) == results(TOKEN)
    assert world.cli_json("list")["entries"][0]["temporary_grants"][0]["used"] == 0


def test_a_revoked_grant_is_gone(world: World, program: str) -> None:
    grant(world, program, "--uses", "9")
    talker = world.talker(program)
    assert talker.ask(read("token")) == results(TOKEN)
    assert world.cli("revoke", program, "aws").returncode == 0
    assert talker.ask(read("token")) == denied("service_not_allowed")


def test_a_service_that_asks_for_a_grade_gives_less_for_no_time_at_all(world: World, program: str) -> None:
    grant(world, program, "--uses", "9")
    world.cli_json("require", "aws", "signed")
    assert world.talker(program).ask(read("token")) == denied("identity_not_verified")


def test_a_locked_vault_costs_no_use(world: World, program: str) -> None:
    grant(world, program, "--uses", "1")
    talker = world.talker(program)
    protect(world)
    assert world.cli("lock").returncode == 0
    for _ in range(3):
        assert talker.ask(read("token")) == failed("keychain_locked")
    assert tell(world, "unlock").returncode == 0
    assert talker.ask(read("token")) == results(TOKEN)
    assert talker.ask(read("token")) == ENDED


def test_options_that_do_not_go_together(world: World, program: str) -> None:
    for words in (
        ("--uses", "1", "--search"), ("--for", "10m", "--targets", "x"), ("--target", "x"), ("--behind", "/bin/x"),
        ("--for", "ten"), ("--for", "0s"), ("--uses", "0"), ("--for", "10m", "--no-rollback"),
    ):  # fmt: skip
        done = world.cli("authorize", program, "aws", *words)
        assert (done.returncode, done.stdout) == (2, ""), words
    assert world.read_policy()["registered_binaries"][0].get("temporary_grants") is None


def test_the_policy_change_on_record_says_which(world: World, program: str) -> None:
    given = grant(world, program, "--uses", "3", "--target", "token")
    world.talker(program).ask(read("token"))
    changes = [line["detail"] for line in world.audit() if line["action"] == "policy_change"]
    assert any(f"+temporary {given['id']}: may read aws token" in change for change in changes), changes
