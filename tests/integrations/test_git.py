"""git-credential-keychain-auth, with the real git against a server that wants to know who asks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from integrations import lab
from integrations.lab import ALICE, Plug, clone
from support.world import World

NAME = "git-credential-keychain-auth"


@pytest.fixture
def plug(world: World) -> Plug:
    return Plug(world, NAME)


@pytest.fixture
def forge(plug: Plug) -> Iterator[str]:
    with lab.forge(plug) as address:
        yield address


def test_git_clones_with_a_password_that_a_person_stored(plug: Plug, forge: str) -> None:
    plug.grant("git")
    plug.keep("git", f"http://alice@{forge}", ALICE)
    done = clone(plug, forge)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.path.exists(plug.world.path("copy/README"))
    plug.world.assert_nowhere(ALICE)
    lines = [line for line in plug.world.audit() if line["action"] in ("read", "search")]
    assert lines
    assert {(line["script_path"], line["result"]) for line in lines} == {(plug.path, "GRANTED")}


def test_git_is_approved_once_and_nobody_else_with_it(plug: Plug, forge: str) -> None:
    plug.register(anyone=False)
    plug.authorize("git")
    plug.keep("git", f"http://alice@{forge}", ALICE)
    done = clone(plug, forge)
    assert done.returncode != 0
    assert done.stderr.splitlines()[1:3] == [
        "Why not: who started it is not approved (unregistered_binary_pending_approval)",
        "Next: keychain-auth list-pending; then keychain-auth approve ID",
    ]
    [waiting] = plug.world.cli_json("list-pending")
    assert os.path.basename(waiting["path"]) == "git"
    assert waiting["helper"]["path"] == plug.path
    plug.world.cli_json("approve", waiting["id"])
    assert clone(plug, forge).returncode == 0
    assert {line.get("on_behalf_of") for line in plug.world.audit() if line["action"] == "read"} == {waiting["path"]}
    said = f"protocol=http\nhost={forge}\n\n"
    stranger = ("/usr/bin/env", "timeout", "60", plug.path, "get")  # a program that runs others, and is the parent
    done = plug.run(*stranger, input=said)
    assert (done.returncode, done.stdout) == (3, "")


def test_git_stores_what_worked_and_erases_what_did_not(plug: Plug, forge: str) -> None:
    plug.grant("git")
    asking = plug.world.write("ask", f"#!/bin/sh\ncase $1 in User*) echo alice;; *) echo {ALICE};; esac\n", 0o755)
    env = {"GIT_ASKPASS": asking}
    words = ("git", "-c", "credential.helper=keychain-auth", "clone", "-q", f"http://{forge}/repo.git")
    assert plug.run(*words, "first", env=env).returncode == 0
    assert plug.kept("git", f"http://alice@{forge}") == ALICE
    assert clone(plug, forge, "second").returncode == 0  # without being asked
    plug.keep("git", f"http://alice@{forge}", "no longer right")
    done = clone(plug, forge, "third")
    assert done.returncode != 0
    assert plug.kept("git", f"http://alice@{forge}") is None
    # It is not lost: earlier values of deleted secrets stay.
    assert plug.world.cli("restore-value", "git", f"http://alice@{forge}", "2").returncode == 0
    assert clone(plug, forge, "fourth").returncode == 0


def test_what_is_refused_is_said_in_three_lines(plug: Plug, forge: str) -> None:
    def said() -> list[str]:
        done = clone(plug, forge)
        assert done.returncode != 0
        assert done.stdout == ""
        return done.stderr.splitlines()[:3]

    first = f"{NAME}: wanted"
    assert said() == [
        f"{first} to be started",
        f"Why not: {plug.path} is not registered",
        f"Next: keychain-auth register --app {plug.path} && keychain-auth authorize {plug.path} git",
    ]
    plug.register()
    wanted = f"{first} the password for http://{forge}"
    assert said() == [
        wanted,
        "Why not: it may not search the service git (action_not_in_policy)",
        f"Next: keychain-auth authorize {plug.path} git --read --search",
    ]
    assert plug.world.cli(*plug_words(said()[2])).returncode == 0
    plug.keep("git", f"http://alice@{forge}", ALICE)
    plug.keep("git", f"http://bob@{forge}", "b")
    assert said() == [
        wanted,
        "Why not: several users have one: alice, bob",
        f"Next: git config --global credential.http://{forge}.username USER",
    ]
    assert plug.run("git", "config", "--global", f"credential.http://{forge}.username", "alice").returncode == 0
    assert clone(plug, forge).returncode == 0


def plug_words(line: str) -> list[str]:
    return line.removeprefix("Next: keychain-auth ").split()


def test_a_daemon_that_is_not_there_and_a_vault_that_is_locked(plug: Plug) -> None:
    plug.grant("git")
    request = "protocol=https\nhost=forge.example\n\n"
    done = plug.ask("get", input=request, KEYCHAIN_AUTH_SOCKET=plug.world.path("run/nothing"))
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        f"{NAME}: wanted to be started\nWhy not: keychain-auth daemon is not running\nNext: keychain-auth start\n"
    )


def test_names_are_compared_exactly(plug: Plug) -> None:
    plug.grant("git")
    plug.keep("git", "https://alice@forge.example", "right")

    def got(**fields: str) -> str:
        done = plug.ask("get", input="".join(f"{name}={value}\n" for name, value in fields.items()) + "\n")
        assert done.returncode == 0, done.stderr
        return done.stdout

    answer = "protocol=https\nhost=forge.example\nusername=alice\npassword=right\n"
    assert got(protocol="https", host="forge.example") == answer
    assert got(protocol="https", host="forge.example", username="alice") == answer
    assert got(protocol="http", host="forge.example") == ""
    assert got(protocol="https", host="forge.example:443") == ""
    assert got(protocol="https", host="git.forge.example") == ""
    assert got(protocol="https", host="example") == ""
    assert got(protocol="https", host="forge.example", path="org/repo.git") == ""
    assert got(protocol="https", host="forge.example", username="bob") == ""


IMPOSSIBLE = (
    b"protocol=https\nhost=alice@forge.example\n\n",  # from https://alice%40forge.example/: another address
    b"protocol=https\nhost=forge.example/x\n\n",
    b"protocol=https\nhost=forge.example\rusername=alice\n\n",
    b"protocol=https\nhost=forge.example\0\n\n",
    b"protocol=https\nhost\n\n",
    b"protocol=https\n\n",
    b"host=forge.example\n\n",
    b"protocol=https\nhost=\xff\n\n",
)


def test_what_no_address_can_hold_is_refused(plug: Plug) -> None:
    plug.grant("git")
    plug.keep("git", "https://alice@forge.example", "right")
    for lines in IMPOSSIBLE:
        done = plug.ask("get", input=lines)
        assert (done.returncode, done.stdout) == (1, ""), lines
        assert done.stderr.startswith(f"{NAME}: wanted "), lines


def test_a_password_that_would_be_two_lines_is_not_answered(plug: Plug) -> None:
    plug.grant("git")
    for value in ("secretpart\nhost=evil.example", "secretpart\rb", "secretpart\0b"):
        plug.keep("git", "https://alice@forge.example", value)
        done = plug.ask("get", input="protocol=https\nhost=forge.example\n\n")
        assert (done.returncode, done.stdout) == (1, "")
        assert "Why not: it holds control characters" in done.stderr
        assert "secretpart" not in done.stderr


def test_capabilities_kinds_and_moments(plug: Plug) -> None:
    plug.grant("git")
    assert plug.ask("capability").stdout == "version 0\ncapability authtype\n"
    address = "protocol=https\nhost=forge.example\n"
    able = f"capability[]=authtype\ncapability[]=state\n{address}"
    token = f"{able}authtype=Bearer\ncredential=tok\npassword_expiry_utc=99999999999\noauth_refresh_token=again\n\n"
    assert plug.ask("store", input=token).returncode == 0
    assert plug.ask("get", input=address + "\n").stdout == ""  # a git that knows names and passwords only
    assert plug.ask("get", input=able + "\n").stdout == (
        "capability[]=authtype\nprotocol=https\nhost=forge.example\nauthtype=Bearer\ncredential=tok\n"
        "password_expiry_utc=99999999999\noauth_refresh_token=again\n"
    )
    assert plug.ask("erase", input=f"{able}credential=other\n\n").returncode == 0
    assert plug.kept("git", "https://forge.example") == "tok"
    assert plug.ask("erase", input=f"{able}credential=tok\n\n").returncode == 0
    assert plug.kept("git", "https://forge.example") is None
    assert plug.kept("git", "https://forge.example#oauth_refresh_token") is None
    old = f"{address}username=alice\npassword=p\npassword_expiry_utc=1000\n\n"
    assert plug.ask("store", input=old).returncode == 0
    assert plug.kept("git", "https://alice@forge.example") == "p"
    assert plug.ask("get", input=f"{address}username=alice\n\n").stdout == ""
    assert plug.ask("get", input=address + "\n").stdout == ""
    assert plug.ask("unheard-of", input=address + "\n").returncode == 0


def test_names_of_users_are_kept_whatever_is_in_them(plug: Plug) -> None:
    plug.grant("git")
    address = "protocol=https\nhost=forge.example\n"
    for user in ("alice@corp.example", "a/b:c#d?e", "50%25", "ålice smith"):
        assert plug.ask("store", input=f"{address}username={user}\npassword={user}!\n\n").returncode == 0
        assert f"username={user}\npassword={user}!\n" in plug.ask("get", input=f"{address}username={user}\n\n").stdout
        assert plug.ask("erase", input=f"{address}username={user}\n\n").returncode == 0
    assert plug.world.cli_json("list-secrets", "git") == []


def test_reading_alone_is_enough_for_who_stores_by_hand(plug: Plug) -> None:
    plug.grant("git", "--read")
    plug.keep("git", "https://alice@forge.example", "p")
    known = "protocol=https\nhost=forge.example\nusername=alice\npassword={}\n\n"
    assert "password=p\n" in plug.ask("get", input=known.format("")).stdout
    done = plug.ask("store", input=known.format("p"))
    assert (done.returncode, done.stderr) == (0, "")
    done = plug.ask("store", input=known.format("q"))
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        f"{NAME}: wanted to keep the password for https://alice@forge.example",
        "Why not: it may not write to the service git (service_not_allowed)",
        f"Next: keychain-auth authorize {plug.path} git --write",
    ]
    assert plug.kept("git", "https://alice@forge.example") == "p"
