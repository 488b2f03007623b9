"""list-pending, approve, deny: from a refusal to a registered program, and only that program."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.lab import Terminal, script
from daemon.requests import PENDING, SUCCESS, denied, read, write
from keychain_auth.errors import EXIT_NOT_FOUND
from keychain_auth.model import Grant, Program, Request, Requester
from keychain_auth.policy.behalf import judge
from keychain_auth.policy.decide import decide
from keychain_auth.policy.parse import parse_policy
from support.world import World, sha256_of


def queue(world: World, *entries: dict[str, Any]) -> str:
    """Write pending.json by hand; returns its path."""
    return world.write(".config/keychain-auth/pending.json", json.dumps(entries))


def waiting(path: str, sha256: str = "", **more: Any) -> dict[str, Any]:
    """A queue entry for the program ``path`` as it is now, or with the hash ``sha256``."""
    return {
        "path": path, "hash": f"sha256:{sha256}" if sha256 else sha256_of(path), "command_line": "tool --x",
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "user": "me", "pid": 1, **more,
    }  # fmt: skip


def unstyled(screen: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", screen)


def registered(world: World) -> list[dict[str, Any]]:
    return list(world.read_policy()["registered_binaries"])


def test_from_refusal_to_service(running: World) -> None:
    talker = running.talker()
    assert talker.ask(read("a")) == denied(PENDING)
    program = running.path("bin/talker")
    (entry,) = running.cli_json("list-pending")
    assert (entry["path"], entry["hash"], entry["interpreter"]) == (program, sha256_of(program), None)
    assert program in running.cli("list-pending").stdout
    answer = running.cli_json("approve", entry["hash"], "--read", "aws", "--write", "aws")
    assert (answer["outcome"], answer["path"], answer["can_search"]) == ("registered", program, False)
    assert running.cli_json("list-pending") == []
    assert talker.reconnect().ask(write({"a": "1"})) == SUCCESS


def test_what_waits_is_in_one_piece_on_a_narrow_terminal(world: World, terminal: Callable[..., Terminal]) -> None:
    program = world.build_client()
    queue(world, waiting(program))
    (entry,) = world.cli_json("list-pending")
    narrow = terminal("list-pending", columns=60)
    assert narrow.wait() == 0
    rows = [line.split(maxsplit=1) for line in unstyled(narrow.screen).splitlines()]
    assert ["id", entry["id"]] in rows
    assert ["program", program] in rows
    assert ["command", "line  tool --x"] in rows
    assert "behind" not in narrow.screen  # nothing to say there
    wide = terminal("list-pending")
    assert wide.wait() == 0
    assert unstyled(wide.screen).splitlines()[1].split()[:3] == [entry["id"], entry["hash"][7:23], program]


def test_the_beginning_of_an_id_is_said_to_be_one(world: World) -> None:
    queue(world, waiting(world.build_client()))
    (entry,) = world.cli_json("list-pending")
    done = world.cli("approve", entry["id"][:8])
    assert done.returncode == 2
    assert f"{entry['id'][:8]} is only the beginning of an id: give all 32 digits" in done.stderr
    assert registered(world) == []


def test_approve_gives_no_permission_by_itself(running: World) -> None:
    talker = running.talker()
    talker.ask(read("a"))
    short = sha256_of(talker.words[0]).removeprefix("sha256:")[:8].upper()
    done = running.cli("approve", short)
    assert done.returncode == 0
    assert running.cli_json("list")["entries"][0]["allowed_read_services"] == []
    assert talker.reconnect().ask(read("a")) == denied("service_not_allowed")


def test_approve_with_every_option(world: World) -> None:
    program = world.build_client()
    queue(world, waiting(program))
    digits = sha256_of(program)
    answer = world.cli_json(
        "approve", digits, "--read", "aws", "--read", "openai", "--write", "aws", "--search", "--targets", "p:"
    )
    assert answer == {
        "outcome": "registered", "hash": digits, "path": program, "allowed_read_services": ["aws", "openai"],
        "allowed_write_services": ["aws"], "can_search": True, "allowed_targets": ["p:"],
    }  # fmt: skip


def test_a_known_path_keeps_its_grants(world: World) -> None:
    program = world.build_client(variant="one")
    world.cli("register", program)
    world.cli("authorize", program, "aws", "--read")
    world.build_client(variant="two")
    queue(world, waiting(program))
    answer = world.cli_json("approve", sha256_of(program))
    assert (answer["outcome"], answer["allowed_read_services"]) == ("updated", ["aws"])
    assert [entry["hash"] for entry in registered(world)] == [sha256_of(program)]


def test_a_prefix_must_mean_one_program(world: World) -> None:
    one, two = world.build_client("one"), world.build_client("two", "two")
    first = sha256_of(one).removeprefix("sha256:")
    # Two hashes with the same first 20 digits, as an attacker with time could make the first 8 to 12.
    twin = first[:20] + "".join("0" if digit != "0" else "1" for digit in first[20:])
    queue(world, waiting(one), waiting(two, twin))
    for length in (8, 20):
        done = world.cli("approve", first[:length])
        assert done.returncode == 2
        assert "give more digits" in done.stderr
        assert world.cli("deny", first[:length]).returncode == 2
    assert registered(world) == []
    shown = [line.split()[1] for line in world.cli("list-pending").stdout.splitlines()[1:3]]
    assert shown == [first, twin]  # the short form would not do
    assert world.cli_json("approve", first[:21])["path"] == one
    assert [entry["path"] for entry in world.pending()] == [two]


def test_equal_files_at_two_places_are_told_apart(world: World) -> None:
    one, two = world.build_client("one"), world.build_client("two")
    queue(world, waiting(one), waiting(two))
    done = world.cli("approve", sha256_of(one))
    assert done.returncode == 2
    assert one in done.stderr
    assert two in done.stderr
    assert world.cli_json("approve", sha256_of(one), "--path", two)["path"] == two
    assert [entry["path"] for entry in world.pending()] == [one]


def test_what_is_not_in_the_queue(world: World) -> None:
    program = world.build_client()
    old = datetime.now(UTC) - timedelta(hours=25)
    queue(world, {**waiting(program), "timestamp": old.strftime("%Y-%m-%dT%H:%M:%SZ")})
    assert world.cli_json("list-pending") == []
    assert "No program waits" in world.cli("list-pending").stdout
    for command in ("approve", "deny"):
        done = world.cli(command, sha256_of(program))
        assert done.returncode == 6
        assert "Next: keychain-auth list-pending" in done.stderr
    assert registered(world) == []


def test_a_file_that_changed_since_is_not_approved(running: World) -> None:
    # The attack: an innocent program asks, and is replaced while its owner reads list-pending. What would be registered
    # without a second look is a hash of a file that is gone, and a person who believes to know what stands there.
    talker = running.talker()
    talker.ask(read("a"))
    program = talker.words[0]
    asked = sha256_of(program)
    running.build_client(variant="evil")
    done = running.cli("approve", asked, "--read", "aws")
    assert done.returncode == 1
    assert "not the file any more that asked" in done.stderr
    assert f"Next: keychain-auth deny {asked.removeprefix('sha256:')[:16]}" in done.stderr
    os.unlink(program)
    assert running.cli("approve", asked).returncode == 6
    assert registered(running) == []
    assert len(running.pending()) == 1  # still there, to be denied
    assert running.cli_json("deny", asked) == {"outcome": "denied", "path": program, "hash": asked}
    assert running.pending() == []


def test_a_bare_interpreter_is_never_approved(running: World) -> None:
    code = "from keychain_auth import KeychainAuthClient; KeychainAuthClient().check('aws')"
    process = running.spawn([running.python, "-c", code])
    assert process.wait() == 1
    assert "unregistered_binary_pending_approval" in process.err.text()
    (entry,) = running.cli_json("list-pending")
    assert entry["path"] == running.installation.interpreter
    done = running.cli("approve", entry["hash"])
    assert done.returncode == 2
    assert "Next: keychain-auth register --script SCRIPT" in done.stderr
    assert registered(running) == []
    assert running.cli("deny", entry["hash"]).returncode == 0


def test_a_script_is_approved_with_its_interpreter(running: World) -> None:
    code = "from keychain_auth import KeychainAuthClient\nKeychainAuthClient().check('aws')\nprint('served')\n"
    path = script(running, text=code)
    words = [running.python, path]
    assert running.spawn(words).wait() == 1
    (entry,) = running.cli_json("list-pending")
    interpreter = running.installation.interpreter
    assert (entry["path"], entry["interpreter"]["path"]) == (path, interpreter)
    running.cli_json("approve", entry["id"], "--allow-declared")
    (added,) = registered(running)
    assert added["interpreter"] == {"path": interpreter, "hash": sha256_of(interpreter)}
    assert added["minimum_grade"] == "declared"
    running.cli_json("authorize", path, "aws")
    process = running.spawn(words)
    assert process.wait() == 0, process.err.text()


def test_a_changed_interpreter_is_not_approved(world: World) -> None:
    path = script(world)
    interpreter = {"path": world.installation.interpreter, "hash": "sha256:" + "0" * 64}
    queue(world, waiting(path, interpreter=interpreter))
    done = world.cli("approve", world.cli_json("list-pending")[0]["id"])
    assert done.returncode == 1
    assert f"{world.installation.interpreter} is not the file" in done.stderr


def test_the_queue_keeps_the_entry_when_the_policy_cannot_be_written(world: World) -> None:
    program = world.build_client()
    queue(world, waiting(program))
    world.write(".config/keychain-auth/config.json", "{")
    assert world.cli("approve", sha256_of(program)).returncode == 1
    assert len(world.pending()) == 1


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"path": 1}]', "[" * 100_000])
def test_a_damaged_queue_is_named(world: World, content: str) -> None:
    path = world.write(".config/keychain-auth/pending.json", content)
    for words in (("list-pending",), ("approve", "12345678"), ("deny", "12345678")):
        done = world.cli(*words)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 2
        assert f"Next: rm {path}" in done.stderr


def test_command_lines_cannot_play_with_the_terminal(world: World) -> None:
    queue(world, waiting(world.build_client(), command_line="tool \x1b[2J\r[bold]all is well[/bold]\nfake line"))
    shown = world.cli("list-pending").stdout
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert len(shown.splitlines()) == 3  # titles, the program, the next step
    assert "tool \\x1b[2J\\r[bold]all is well[/bold]\\nfake line" in shown
    (entry,) = world.cli_json("list-pending")  # programs get it as it is, escaped as JSON
    assert entry["command_line"].startswith("tool \x1b[2J\r")


# --- the queue is a file that any program of the user can write ----------------------------------------


def wish(world: World, **more: Any) -> dict[str, Any]:
    """A request of a program for a secret, by the helper that starts commands of agents."""
    helper = world.build_client("keychain-auth-run", "helper")
    world.cli("register", helper)
    request = {"id": "a" * 32, "service": "github", "targets": ["token"], "seconds": 600, "uses": 3, "reason": "tests"}
    agent = world.build_client("agent", "agent")
    more = {"helper": {"path": helper, "hash": sha256_of(helper)}, "request": {**request, **more}}
    return waiting(agent, **more)


def test_a_request_that_was_changed_after_the_person_looked_is_not_approved(world: World) -> None:
    queue(world, wish(world))
    seen = world.cli_json("list-pending")[0]["request"]["id"]
    queue(world, wish(world, id=seen, service="root", targets=["ca"], uses=100))  # the same id, as it wins if believed
    assert world.cli("approve", seen).returncode == EXIT_NOT_FOUND
    assert "temporary_grants" not in registered(world)[0]
    assert world.cli("approve", seen[:16]).returncode == EXIT_NOT_FOUND  # only the whole of it says what is approved
    queue(world, wish(world))
    assert world.cli_json("approve", seen)["outcome"] == "approved"
    [grant] = registered(world)[0]["temporary_grants"]
    assert (grant["service"], grant["targets"], grant["uses"]) == ("github", ["token"], 3)


def test_what_a_request_asks_for_is_told_from_what_would_be_granted(world: World) -> None:
    queue(world, {**wish(world, service="root"), "command_line": "asks for 10m, 1 uses of github token: tests"})
    shown = world.cli("list-pending").stdout
    assert "asks for 10m, 3 uses of root token: tests" in shown
    assert "github" not in shown


def test_a_name_that_reads_like_the_rest_of_a_request_makes_it_no_smaller(world: World) -> None:
    """The queue is a file of the user, and a request in it may name several secrets."""
    small = "60s, 1 uses: the release"
    names = ["token", f"x, {small}"]
    queue(world, wish(world, targets=names, seconds=86400, uses=100))
    naive = f"asks for github {', '.join(names)}, 24h, 100 uses: tests"
    assert naive.startswith(f"asks for github token, x, {small}")  # who reads on to there approves a day
    shown = world.cli("list-pending").stdout
    assert "asks for 1d, 100 uses of github token, 'x, 60s, 1 uses: the release': tests" in shown


def test_who_asks_for_one_secret_is_not_given_what_others_have_by_the_same_helper(world: World) -> None:
    """To have anything by a helper is to stand behind it, and what the helper may have for all comes with that."""
    queue(world, wish(world, service="notes", targets=["todo"]))
    [waits] = world.cli_json("list-pending")
    helper, agent = waits["helper"]["path"], waits["path"]
    world.cli_json("behalf", helper, "--ask")
    world.cli_json("authorize", helper, "github", "--read")  # for the agents that a person named
    naive, (before,) = world.read_policy(), registered(world)
    naive["registered_binaries"][0]["on_behalf_of"] = [named(agent)]
    entry = parse_policy(json.dumps(naive).encode()).by_path[helper][0]
    requester = Requester(Program(agent, sha256_of(agent).removeprefix("sha256:")))
    assert judge(entry, requester) is None
    assert isinstance(
        decide(entry, Request("read", "github", targets=("token",))), Grant
    )  # it asked for a note, and has this

    done = world.cli("approve", waits["id"])
    assert done.returncode == 1
    assert f"asks for notes alone, and would stand behind {helper} for good, which may read github" in done.stderr
    assert f"keychain-auth behalf {helper} --allow {agent}" in done.stderr
    assert registered(world) == [before]
    world.cli_json("behalf", helper, "--allow", agent)  # that is a person's word
    assert world.cli_json("approve", waits["id"])["outcome"] == "approved"
    [grant] = registered(world)[0]["temporary_grants"]
    assert (grant["service"], grant["on_behalf_of"]) == ("notes", agent)


def evil_twin(world: World, name: str, of: str) -> str:
    """Another program, with the look of ``of``."""
    path = world.path(f"bin/{name}")
    with open(of, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content + b"evil")
    os.chmod(path, 0o755)
    world.user.own(path)
    return path


def named(path: str) -> dict[str, str]:
    return {"path": path, "hash": sha256_of(path)}


def naive(world: World, digits: str) -> dict[str, Any]:
    """What an approval by the hash alone takes out of the queue, whatever stood there when the person looked."""
    [found] = [entry for entry in world.pending() if entry["hash"] == digits]
    return found


def test_another_interpreter_put_into_the_queue_after_the_person_looked_is_not_approved(world: World) -> None:
    tool, python = script(world), world.installation.interpreter
    evil = evil_twin(world, "python3", python)
    queue(world, waiting(tool, interpreter=named(python)))
    [seen] = world.cli_json("list-pending")
    assert seen["id"] in world.cli("list-pending").stdout
    queue(world, waiting(tool, interpreter=named(evil)))
    assert naive(world, seen["hash"])["interpreter"]["path"] == evil
    assert world.cli("approve", seen["id"], "--read", "aws").returncode == EXIT_NOT_FOUND
    done = world.cli("approve", seen["hash"], "--read", "aws")
    assert done.returncode == 2
    assert f"{tool} waits, run by {evil}" in done.stderr
    assert world.cli("approve", seen["hash"], "--interpreter", python).returncode == EXIT_NOT_FOUND
    assert registered(world) == []
    queue(world, waiting(tool, interpreter=named(python)))
    assert world.cli_json("approve", seen["id"], "--read", "aws")["outcome"] == "registered"
    assert registered(world)[0]["interpreter"]["path"] == python


def test_the_interpreter_may_be_named_in_place_of_the_id(world: World) -> None:
    tool, python = script(world), world.installation.interpreter
    queue(world, waiting(tool, interpreter=named(python)))
    assert world.cli_json("approve", sha256_of(tool), "--interpreter", python)["outcome"] == "registered"


def test_another_helper_put_into_the_queue_after_the_person_looked_is_not_approved(world: World) -> None:
    helper, evil, agent = (world.build_client(name, name) for name in ("helper", "evil", "agent"))
    for one in (helper, evil):
        world.allow(one, on_behalf_of=[])
    queue(world, waiting(agent, helper=named(helper)))
    [seen] = world.cli_json("list-pending")
    queue(world, waiting(agent, helper=named(evil)))
    assert naive(world, seen["hash"])["helper"]["path"] == evil
    assert world.cli("approve", seen["id"]).returncode == EXIT_NOT_FOUND
    done = world.cli("approve", seen["hash"])
    assert (done.returncode, f"behind {evil}" in done.stderr) == (2, True)
    assert world.cli("approve", seen["hash"], "--helper", helper).returncode == EXIT_NOT_FOUND
    assert [entry["on_behalf_of"] for entry in registered(world)] == [[], []]


def test_another_place_of_the_same_content_put_into_the_queue_is_not_approved(world: World) -> None:
    """Its hash is the same; the id that was shown is not."""
    tool, copy = world.build_client("tool"), world.build_client("copy")
    queue(world, waiting(tool))
    [seen] = world.cli_json("list-pending")
    queue(world, waiting(copy))
    assert naive(world, seen["hash"])["path"] == copy
    assert world.cli("approve", seen["id"]).returncode == EXIT_NOT_FOUND
    assert world.cli("approve", seen["hash"], "--path", tool).returncode == EXIT_NOT_FOUND
    assert registered(world) == []


def test_the_list_says_what_to_do_next(world: World) -> None:
    tool = world.build_client()
    queue(world, waiting(tool))
    [seen] = world.cli_json("list-pending")
    assert (
        f"Next, for what you know: keychain-auth approve {seen['id']} --read SERVICE"
        in world.cli("list-pending").stdout
    )
    assert world.cli_json("deny", seen["id"])["outcome"] == "denied"
    assert "Next" not in world.cli("list-pending").stdout
