"""register --signer, --no-rollback, and check for programs that a trusted signer signed."""

from __future__ import annotations

import json
import os

from cli.lab import script
from daemon.requests import PENDING, denied, read, results
from support.signing import Publisher, trust
from support.world import World


def test_register_by_service_or_by_key(world: World, publisher: Publisher) -> None:
    program = publisher.build(world)
    for signer in ("own", publisher.text):
        world.cli_json("register", program, "--signer", signer)
        [entry] = world.read_policy()["registered_binaries"]
        assert entry["signer"] == publisher.text
        assert "no_rollback" not in entry
    world.cli_json("register", program, "--no-rollback")
    assert world.read_policy()["registered_binaries"][0]["no_rollback"] is True
    world.cli_json("register", program, "--allow-rollback")
    assert world.read_policy()["registered_binaries"][0]["no_rollback"] is False


def test_a_new_build_of_the_signer_keeps_the_grants_without_a_command(world: World, publisher: Publisher) -> None:
    program = publisher.build(world, build=1)
    world.cli_json("register", program, "--signer", "own", "--no-rollback")
    world.cli_json("authorize", program, "bank", "--read")
    world.start()
    for build in (1, 2):
        publisher.build(world, variant=f"number{build}", build=build)
        assert world.talker(program).ask(read("a", service="bank")) == results()
    publisher.build(world, variant="number1", build=1)
    assert world.talker(program).ask(read("a", service="bank")) == denied("identity_not_verified")
    answer = json.loads(world.cli("check", program, "bank", "--json").stdout)
    assert (answer["fits"], answer["allowed"], answer["grade"]) == (False, False, "signed")
    assert "build 2 or later" in answer["why"]
    world.cli_json("authorize", program, "bank", "--allow-rollback")
    assert world.talker(program).ask(read("a", service="bank")) == results()


def test_authorize_with_only_no_rollback_leaves_what_it_may_do(world: World, publisher: Publisher) -> None:
    program = publisher.build(world, build=1)
    world.cli_json("register", program, "--signer", "own")
    world.cli_json("authorize", program, "bank", "--read")
    answer = world.cli_json("authorize", program, "bank", "--no-rollback")
    assert (answer["allowed_read_services"], answer["allowed_write_services"]) == (["bank"], [])
    assert world.read_policy()["registered_binaries"][0]["no_rollback"] is True


def test_what_cannot_be_meant_is_told(world: World, publisher: Publisher) -> None:
    program, path, other = publisher.build(world), script(world), Publisher()

    def told(*words: str) -> str:
        done = world.cli(*words)
        assert done.returncode == 2, done.stderr
        return done.stderr

    assert "nor a service of trusted_signers" in told("register", program, "--signer", "unheard-of")
    assert "--signer KEY --no-rollback" in told("register", program, "--no-rollback")
    assert "a script cannot be signed" in told("register", "--script", path, "--signer", "own")
    world.cli_json("register", program)
    assert "--signer KEY --no-rollback" in told("authorize", program, "bank", "--no-rollback")
    trust(world, publisher.signer("own"), other.signer("own"))
    assert "2 trusted signers: give the key" in told("register", program, "--signer", "own")


def test_register_warns_of_what_it_does_not_do(world: World, publisher: Publisher) -> None:
    program, stranger = publisher.build(world), Publisher()
    [warning] = world.cli_json("register", program, "--signer", "own")["warnings"]
    assert warning.endswith(f"keychain-auth authorize {program} own")
    world.cli_json("authorize", program, "own")
    assert world.cli_json("register", program, "--signer", "own")["warnings"] == []
    [warning] = world.cli_json("register", program, "--signer", stranger.text)["warnings"]
    assert "not in trusted_signers" in warning
    plain = world.build_client("plain")
    [warning] = world.cli_json("register", plain, "--signer", "own")["warnings"]
    assert "is not signed by" in warning


def test_check_of_a_program_that_is_only_signed(world: World, publisher: Publisher) -> None:
    program = publisher.build(world, build=3)
    answer = world.cli_json("check", program, "own")
    assert (answer["registered"], answer["fits"], answer["allowed"], answer["grade"]) == (False, True, True, "signed")
    assert answer["entry"]["signer"] == publisher.text
    said = world.cli("check", program, "bank")
    assert said.returncode == 3
    assert f"not registered, but signed by {publisher.text}" in said.stdout
    assert "so it has full access to own" in said.stdout
    assert f"Next: keychain-auth register {program} --signer {publisher.text}" in said.stdout
    trust(world)
    assert world.cli("check", program, "own").returncode == 6
    trust(world, publisher.signer("own"))
    interpreter = publisher.build(world, "bash")
    assert world.cli("check", interpreter, "own").returncode == 6


def test_check_over_an_entry_of_another_hash(world: World, publisher: Publisher) -> None:
    program = world.granted("signed", "bank", variant="other")
    publisher.build(world)
    said = world.cli("check", program, "bank")
    assert said.returncode == 3
    assert "so it has full access to own" in said.stdout


def test_upgrade_takes_only_what_the_signer_signed(world: World, publisher: Publisher) -> None:
    program = publisher.build(world, "tool")
    world.cli_json("register", program, "--signer", "own")
    before = world.read_policy()
    for other in (world.build_client("tool", "other"), Publisher().build(world, "tool", "other")):
        done = world.cli("upgrade", other)
        assert done.returncode == 2
        assert f"is not signed by {publisher.text}" in done.stderr
        assert world.read_policy() == before
    publisher.build(world, "tool", "next")
    assert world.cli_json("upgrade", program)["outcome"] == "updated"
    world.build_client("tool", "other")
    assert world.cli_json("register", program)["outcome"] == "updated"  # a person may say otherwise


def test_approve_binds_to_a_signer(world: World) -> None:
    stranger = Publisher()
    program = stranger.build(world, build=1)
    world.start()
    assert world.talker(program).ask(read("a", service="own")) == denied(PENDING)
    trust(world, stranger.signer("elsewhere"))
    [waiting] = world.cli_json("list-pending")
    world.cli_json("approve", waiting["hash"], "--read", "own", "--signer", "elsewhere", "--no-rollback")
    for build in (2, 3):
        stranger.build(world, variant=f"number{build}", build=build)
        assert world.talker(program).ask(read("a", service="own")) == results()


def test_list_shows_signers(world: World, publisher: Publisher) -> None:
    program = publisher.build(world)
    world.cli_json("register", program, "--signer", "own", "--no-rollback")
    answer = world.cli_json("list")
    assert answer["trusted_signers"] == [{"service": "own", "public_key": publisher.text}]
    assert (answer["entries"][0]["signer"], answer["entries"][0]["no_rollback"]) == (publisher.text, True)
    assert f"Programs signed by {publisher.text} may use own." in world.cli("list").stdout


def test_a_broken_list_of_builds_stops_the_start_and_the_check(world: World, publisher: Publisher) -> None:
    program = publisher.build(world)
    place = world.write(".local/share/keychain-auth/builds.json", "{}")
    done = world.cli("start")
    assert done.returncode == 1
    assert f"mv {place} {place}.damaged" in done.stderr
    done = world.cli("check", program)
    assert done.returncode == 1
    assert "is not a list of builds" in done.stderr
    assert os.path.exists(place)
