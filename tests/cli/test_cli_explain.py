"""explain: what would happen, and the line of config.json that decides; the daemon then does just that."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from daemon.requests import SUCCESS, denied, read, request, write
from support.world import World


def line(world: World, number: int) -> str:
    """A line of config.json as it stands there."""
    with open(world.policy_path, encoding="utf-8") as file:
        return file.read().splitlines()[number - 1].strip()


def deciding(world: World, verdict: dict[str, Any]) -> list[str]:
    return [line(world, one["line"]) for one in verdict["lines"]]


def explained(world: World, *words: str) -> dict[str, Any]:
    done = world.cli("explain", *words, "--json")
    assert done.returncode in (0, 3, 6), done.stderr
    return dict(json.loads(done.stdout))


def test_a_grant_rests_on_the_lines_that_are_named(running: World) -> None:
    program = running.build_client()
    running.allow("/bin/true", ["other"])  # another entry before it
    running.allow(program, ["gh", "aws"], ["aws"], True, allowed_targets=["dev:", "prod:"])
    answer = explained(running, program, "aws", "prod:key")
    assert {action: one["granted"] for action, one in answer["actions"].items()} == dict.fromkeys(
        ("read", "write", "delete", "search"), True
    )
    assert deciding(running, answer["actions"]["read"]) == ['"aws"', '"prod:"']
    assert deciding(running, answer["actions"]["search"]) == ['"aws"', '"can_search": true,', '"prod:"']
    fields = [one["field"] for one in answer["actions"]["read"]["lines"]]
    assert fields == [
        "$.registered_binaries[1].allowed_read_services[1]", "$.registered_binaries[1].allowed_targets[1]"
    ]  # fmt: skip
    talker = running.talker(program)
    assert talker.ask(write({"prod:key": "v"})) == SUCCESS


@pytest.mark.parametrize(
    ("fields", "action", "target", "reason", "stands"),
    [
        ({"read": []}, "read", "a", "service_not_allowed", '"allowed_read_services": [],'),
        ({"write": []}, "write", "a", "service_not_allowed", '"allowed_write_services": [],'),
        ({"search": False}, "search", "a", "action_not_in_policy", '"can_search": false'),
        ({"allowed_targets": ["b"]}, "read", "a", "target_not_allowed", '"allowed_targets": ['),
    ],
)
def test_a_refusal_names_the_line_in_its_way_and_the_daemon_agrees(
    running: World, fields: dict[str, Any], action: str, target: str, reason: str, stands: str
) -> None:
    program = running.build_client()
    running.allow(program, **{"read": ["aws"], "write": ["aws"], "search": True, **fields})
    answer = explained(running, program, "aws", target, "--action", action)
    [(_, verdict)] = answer["actions"].items()
    assert (verdict["granted"], verdict["reason"]) == (False, reason)
    assert deciding(running, verdict) == [stands]
    assert verdict["mend"].startswith("keychain-auth authorize ")
    asked = write({target: "v"}) if action == "write" else request(action, targets=[target])
    assert running.talker(program).ask(asked) == denied(reason)
    done = running.cli("explain", program, "aws", target, "--action", action)
    assert done.returncode == 3
    assert f"config.json line {verdict['lines'][0]['line']}: $.registered_binaries[0]" in done.stdout


def test_a_field_that_is_left_out_decides_by_the_line_of_its_entry(world: World) -> None:
    program = world.build_client()
    entry = world.entry(program, ["aws"])
    del entry["can_search"]
    world.write_policy({"registered_binaries": [entry]})
    verdict = explained(world, program, "aws", "--action", "search")["actions"]["search"]
    assert [one["field"] for one in verdict["lines"]] == ["$.registered_binaries[0].can_search"]
    assert deciding(world, verdict) == ["{"]


def test_a_prefix_asks_for_can_search(world: World) -> None:
    program = world.build_client()
    world.allow(program, ["aws"])
    assert explained(world, program, "aws", "p", "--action", "read")["actions"]["read"]["granted"]
    verdict = explained(world, program, "aws", "p", "--prefix", "--action", "read")["actions"]["read"]
    assert verdict["reason"] == "action_not_in_policy"


def test_a_changed_program_is_decided_by_its_hash(world: World) -> None:
    program = world.granted("talker", "aws")
    world.build_client("talker", "newer")
    verdict = explained(world, program, "aws", "--action", "read")["actions"]["read"]
    assert verdict["reason"] == "unregistered_binary_pending_approval"
    assert deciding(world, verdict)[0].startswith('"hash": "sha256:')
    assert verdict["mend"] == f"keychain-auth upgrade {program}"


def test_what_a_service_asks_of_everybody_is_a_line_too(world: World) -> None:
    program = world.granted("talker", "prod")
    assert world.cli("require", "prod", "system").returncode == 0
    verdict = explained(world, program, "prod", "--action", "read")["actions"]["read"]
    assert verdict["reason"] == "identity_not_verified"
    assert deciding(world, verdict) == ['"minimum_grade": "system"']


def test_an_unknown_program_has_no_line_and_a_way_in(world: World) -> None:
    program = world.build_client()
    answer = explained(world, program, "aws")
    assert all(one["reason"] == "unregistered_binary_pending_approval" for one in answer["actions"].values())
    assert all(one["lines"] == [] for one in answer["actions"].values())
    done = world.cli("explain", program, "aws")
    assert done.returncode == 6
    assert f"Next: keychain-auth register {program}" in done.stdout
    assert explained(world, "/nowhere", "aws")["program"] == "/nowhere"


def test_the_keychain_is_named_where_the_service_lies(world: World) -> None:
    program = world.granted("talker", "aws")
    world.write_settings('[keychains]\nroutes = {"aws" = "desk"}\n[keychains.stores.desk]\nkind = "secret-service"\n')
    assert explained(world, program, "aws")["keychain"] == "desk"


def test_wrong_usage(world: World) -> None:
    program = world.granted("talker", "aws")
    assert world.cli("explain", program, "aws", "--prefix").returncode == 2
    assert world.cli("explain", program, "a\tb").returncode == 2
    assert world.cli("explain", os.path.dirname(program), "aws", "--action", "check").returncode == 2


def test_a_read_that_explain_grants_is_granted(running: World) -> None:
    program = running.granted("talker", "aws")
    assert explained(running, program, "aws", "t", "--action", "read")["actions"]["read"]["granted"]
    assert running.talker(program).ask(read("t"))["status"] == "success"


def test_each_agent_has_its_own_grant_and_its_own_answer(world: World) -> None:
    """Of two grants for one service the last one was taken for both."""
    program = world.build_client()
    world.allow(program)
    world.cli_json("authorize", program, "gh", "--read", "--for", "10m", "--target", "a", "--behind", "/opt/one")
    world.cli_json("authorize", program, "gh", "--write", "--uses", "2", "--target", "b", "--behind", "/opt/two")
    answer = explained(world, program, "gh", "a", "--action", "read")
    assert answer["behind"]["/opt/one"]["read"]["granted"] is True
    assert answer["behind"]["/opt/two"]["read"]["granted"] is False
    assert answer["actions"]["read"]["granted"] is False  # not for all of them
    said = world.cli("explain", program, "gh", "a").stdout
    assert said.index("while /opt/one stands behind it:") < said.index("while /opt/two stands behind it:")
    one = explained(world, program, "gh", "a", "--action", "read", "--behind", "/opt/one")
    assert one["actions"]["read"]["granted"] is True
    assert [stands["field"] for stands in one["actions"]["read"]["lines"]] == [
        "$.registered_binaries[0].temporary_grants[0]"
    ]
    nobody = explained(world, program, "gh", "a", "--action", "read", "--behind", "/opt/three")
    assert nobody["actions"]["read"]["reason"] == "service_not_allowed"


def test_what_is_proposed_for_another_target_is_the_same_grant_for_that_target(world: World) -> None:
    """A write that was refused is not mended by a read, nor by a grant for everybody."""
    program = world.build_client()
    world.allow(program)
    world.cli_json(
        "authorize", program, "gh", "--read", "--write", "--uses", "2", "--target", "a", "--behind", "/opt/one"
    )
    refused = explained(world, program, "gh", "b", "--action", "write")["actions"]["write"]
    assert refused["reason"] == "target_not_allowed"
    assert (
        refused["mend"]
        == f"keychain-auth authorize {program} gh --read --write --target a --target b --uses 2 --behind /opt/one"
    )
    assert refused["lines"][0]["field"] == "$.registered_binaries[0].temporary_grants[0]"
