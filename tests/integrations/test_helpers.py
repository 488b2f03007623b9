"""What all helpers have in common: who they are to the daemon, attacks on that, and a vault that is locked."""

from __future__ import annotations

import os
import shlex
import shutil

import pytest

from integrations import lab
from integrations.lab import Plug
from integrations.test_keyring import Program
from support.person import protect
from support.world import World

NAME = "keychain-auth-password"
SECRET = "never-to-be-had"
EVIL = """
import os, socket
stream = socket.socket(socket.AF_UNIX)
stream.connect(os.environ["KEYCHAIN_AUTH_SOCKET"])
stream.sendall(b'{"type":"REQUEST","action":"read","service":"s","targets":["t"]}' + bytes([10]))
print("stolen", stream.makefile().readline(), flush=True)
"""


@pytest.fixture
def plug(world: World) -> Plug:
    plug = Plug(world, NAME)
    plug.register()
    plug.authorize("s", "--read")
    plug.keep("s", "t", SECRET)
    return plug


def test_what_it_proposes_for_another_name_gives_no_more_than_was_refused(world: World) -> None:
    plug = Plug(world, NAME)
    plug.register()
    plug.authorize("s", "--target", "t", "--for", "10m")
    [before] = world.read_policy()["registered_binaries"]
    done = plug.ask("s", "other")
    assert done.returncode == 3
    *_, why, following = done.stderr.splitlines()
    assert why == "Why not: it may not use these names (target_not_allowed)"
    command = following.removeprefix("Next: ")
    assert command == f"keychain-auth explain {plug.path} s other --action read"
    said = world.cli(*shlex.split(command)[1:]).stdout
    proposed = said.partition("Next: ")[2].strip()
    assert proposed == f"keychain-auth authorize {plug.path} s --read --target other --target t --for 10m"
    assert world.cli(*shlex.split(proposed)[1:]).returncode == 0
    [after] = world.read_policy()["registered_binaries"]
    assert {name: after[name] for name in after if name != "temporary_grants"} == {
        name: before[name] for name in before if name != "temporary_grants"
    }
    assert [grant["targets"] for grant in after["temporary_grants"]] == [["other", "t"]]


def test_code_in_the_environment_of_a_helper(plug: Plug) -> None:
    """Whoever starts git chooses its variables. It wins against a helper that is only declared."""
    folder = os.path.dirname(plug.world.write("evil/sitecustomize.py", EVIL))
    plug.register("--allow-declared")
    assert 'stolen {"type":"RESPONSE","status":"success"' in plug.ask("s", "t", PYTHONPATH=folder).stdout
    plug.register("--minimum-grade", "launched")
    done = plug.ask("s", "t", PYTHONPATH=folder)
    stolen, _, rest = done.stdout.partition("\n")
    assert SECRET not in stolen
    assert "identity_not_verified" in stolen
    assert rest.strip() == SECRET  # the helper itself, launched, has not run that code


def test_a_variable_that_says_it_was_launched(plug: Plug) -> None:
    done = plug.ask("s", "t", KEYCHAIN_AUTH_SCRIPT=plug.path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "identity_not_verified" in done.stderr
    assert f"Next: keychain-auth audit search --program {plug.path} --denied" in done.stderr
    assert "identity_not_verified" in plug.world.cli("audit", "search", "--program", plug.path, "--denied").stdout


def test_another_helper_or_a_copy_has_none_of_its_grants(plug: Plug) -> None:
    other = plug.beside("keychain-auth-ansible-client")
    assert other.ask("--vault-id", "t").returncode == 6
    other.register()
    done = other.ask("--vault-id", "t")
    assert (done.returncode, done.stdout) == (3, "")
    copy = shutil.copy(plug.path, plug.world.path("bin", NAME))
    plug.world.user.own(copy)
    done = plug.run(copy, "s", "t")
    assert (done.returncode, done.stdout) == (6, "")
    assert f"{copy} is not registered" in done.stderr


def test_what_it_imports_is_part_of_it(plug: Plug) -> None:
    folder = lab.environment("pycparser")  # one of its own, to be changed
    changed = plug.beside(NAME, folder)
    changed.register()
    changed.authorize("s", "--read")
    assert changed.ask("s", "t").stdout == f"{SECRET}\n"
    module = os.path.join(lab.packages_of(folder), "keychain_auth", "integrations", "password.py")
    with open(module, "a", encoding="utf-8") as file:
        file.write("\n")
    done = changed.ask("s", "t")
    assert (done.returncode, done.stdout) == (3, "")
    assert "integrations/password.py (changed)" in done.stderr
    assert f"Next: keychain-auth upgrade {changed.path}\n" in done.stderr


CALLS = {
    "cargo-credential-keychain-auth": ("--cargo-plugin",),
    "docker-credential-keychain-auth": ("get",),
    "git-credential-keychain-auth": ("get",),
    "keychain-auth-ansible-client": ("--vault-id", "t"),
    "keychain-auth-askpass": ("alice@host.example's password: ",),
    "keychain-auth-aws": (),
    "keychain-auth-keyring": ("get", "s", "t"),
    "keychain-auth-kubectl": ("t",),
    "keychain-auth-npm-token": (),
    "keychain-auth-password": ("s", "t"),
    "keychain-auth-run": ("--", "/bin/true"),
    "terraform-credentials-keychain-auth": ("get", "app.example"),
}
INPUT = {"docker-credential-keychain-auth": "r.example", "git-credential-keychain-auth": "protocol=https\nhost=h\n\n"}


def test_all_say_the_same_three_things(world: World) -> None:
    """What was wanted, why not, the command that mends it: on standard error, and nothing on standard output."""
    assert set(CALLS) == {name for name in os.listdir(lab.SCRIPTS) if name != "keychain-auth"}
    first = Plug(world, NAME)
    for name, words in CALLS.items():
        helper = first.beside(name)
        done = helper.ask(*words, input=INPUT.get(name, ""))
        assert (done.returncode, done.stdout) == (6, ""), name
        wanted, why, mend = done.stderr.splitlines()
        assert wanted == f"{name}: wanted to be started"
        assert why == f"Why not: {helper.path} is not registered"
        assert mend.startswith(f"Next: keychain-auth register --app {helper.path} && keychain-auth authorize")
        helper.register()
        if name in ("cargo-credential-keychain-auth", "keychain-auth-run"):  # told in its protocol; needs no secret
            continue
        done = helper.ask(*words, input=INPUT.get(name, ""))
        assert (done.returncode, done.stdout) == (3, ""), name
        wanted, why, mend = done.stderr.splitlines()
        assert wanted.startswith(f"{name}: wanted ")
        assert why.startswith("Why not: it may not ")
        command = mend.removeprefix("Next: keychain-auth ").split()
        assert command[:2] == ["authorize", helper.path]
    done = world.cli(*command)  # what it says does mend it
    assert done.returncode == 0, done.stderr
    assert helper.ask(*words).stdout == "{}\n"


def test_locked_is_told_at_once_and_nobody_is_asked(world: World) -> None:
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    plug = Program(world, "uses")
    plug.register()
    plug.authorize("s")
    helper = plug.beside(NAME)
    helper.register()
    helper.authorize("s", "--read")
    plug.keep("s", "t", SECRET)
    protect(world)
    assert helper.ask("s", "t").stdout == f"{SECRET}\n"  # a passphrase that is set changes nothing for programs
    assert world.cli("lock").returncode == 0
    done = helper.ask("s", "t")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == (
        f"{NAME}: wanted t of s\nWhy not: the keychain is locked (keychain_locked)\nNext: keychain-auth unlock\n"
    )
    got, put = plug.use(("get_password", "s", "t"), ("set_password", "s", "t", "p"))
    for said in (got, put):
        assert isinstance(said, list)
        assert said[0] == "KeyringLocked"
        assert said[1].endswith("Next: keychain-auth unlock")
