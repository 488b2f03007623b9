"""keychain-auth-askpass, with the real ssh-add and git."""

from __future__ import annotations

import pytest

from integrations import lab
from integrations.lab import ALICE, Plug, clone, tool
from support.world import World

NAME = "keychain-auth-askpass"


@pytest.fixture
def plug(world: World) -> Plug:
    return Plug(world, NAME)


def test_ssh_add_opens_a_key(plug: Plug) -> None:
    agent = tool("ssh-agent", "apt-get install openssh-client")
    key = plug.world.path("id_ed25519")
    made = plug.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "pass phrase", "-C", "a key of alice", "-f", key)
    assert made.returncode == 0, made.stderr
    plug.grant("ssh", "--read")
    env = {"SSH_ASKPASS": plug.path, "SSH_ASKPASS_REQUIRE": "force"}
    words = (agent, "/bin/sh", "-c", f"ssh-add {key} && ssh-add -l; code=$?; kill $SSH_AGENT_PID; exit $code")
    done = plug.run(*words, env=env)
    assert (done.returncode, "a key of alice" in done.stdout) == (1, False)
    assert f"Next: keychain-auth set ssh {key}\n" in done.stderr
    plug.keep("ssh", key, "pass phrase")
    done = plug.run(*words, env=env)
    assert (done.returncode, "a key of alice" in done.stdout) == (0, True), done.stderr


def test_git_asks_for_user_and_password(plug: Plug) -> None:
    plug.grant("git", "--read", "--search")
    with lab.forge(plug) as address:
        assert clone(plug, address, GIT_ASKPASS=plug.path).returncode != 0
        plug.keep("git", f"http://alice@{address}", ALICE)
        done = clone(plug, address, GIT_ASKPASS=plug.path)
        assert (done.returncode, done.stderr) == (0, "")


def test_only_whole_questions_of_the_tools_own_are_answered(plug: Plug) -> None:
    """A server chooses the words of keyboard-interactive questions; ssh puts (USER@HOST) before them."""
    plug.register()
    for service in ("ssh", "git"):
        plug.authorize(service)
    plug.keep("ssh", "/keys/id", "never-said")
    plug.keep("ssh", "alice@host.example", "never-said")
    plug.keep("git", "https://alice@forge.example", "never-said")
    for right in (
        "Enter passphrase for key '/keys/id': ", "Enter passphrase for /keys/id: ",
        "alice@host.example's password: ", "Password for 'https://alice@forge.example': ",
    ):  # fmt: skip
        assert plug.ask(right).stdout == "never-said\n", right
    assert plug.ask("Username for 'https://forge.example': ").stdout == "alice\n"
    for wrong in (
        "(alice@evil.example) Enter passphrase for key '/keys/id': ",
        "(alice@evil.example) alice@host.example's password: ",
        "Enter passphrase for key '/keys/id': \nReally: ",
        "hello\nalice@host.example's password: ",
        "Password for 'http://alice@forge.example': ",
        "Password for 'https://alice@forge.example.evil.example': ",
        "Password for 'https://alice%40forge.example@evil.example': ",
        "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
        "",
    ):
        done = plug.ask(wrong)
        assert (done.stdout, done.returncode != 0) == ("", True), wrong
        assert "never-said" not in done.stderr
    plug.keep("ssh", "/keys/id", "never-said\nmore")
    done = plug.ask("Enter passphrase for key '/keys/id': ")
    assert (done.returncode, done.stdout) == (1, "")
    done = plug.ask("Enter passphrase for key '/keys/id': ", SSH_ASKPASS_PROMPT="confirm")
    assert (done.returncode, done.stdout) == (2, "")
