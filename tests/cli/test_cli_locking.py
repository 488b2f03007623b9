"""The person's own terminal: where a passphrase is asked for, and where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from cli.lab import Terminal
from keychain_auth.cli.app import commands
from support.person import WORDS, protect, tell
from support.world import World


@pytest.fixture
def cheap(world: World) -> World:
    """A running daemon; passphrases cost little."""
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    world.start()
    return world


def test_unlock_asks_on_the_terminal_and_shows_nothing(cheap: World, terminal: Callable[..., Terminal]) -> None:
    protect(cheap)
    cheap.cli("lock")
    typed = terminal("unlock")
    typed.expect("Passphrase or recovery code: ")
    typed.type(f"{WORDS}\n")
    typed.expect("unlocked")
    assert typed.wait() == 0
    assert WORDS not in typed.screen
    assert cheap.cli("unlocked").returncode == 0


def test_a_first_passphrase_is_typed_twice(cheap: World, terminal: Callable[..., Terminal]) -> None:
    typed = terminal("protect", "add", "passphrase")
    typed.expect("New passphrase: ")
    typed.type(f"{WORDS}\n")
    typed.expect("The same again: ")
    typed.type("something else\n")
    assert typed.wait() == 2
    assert "nothing was changed" in typed.screen
    typed = terminal("protect", "add", "passphrase")
    typed.expect("New passphrase: ")
    typed.type(f"{WORDS}\n")
    typed.expect("The same again: ")
    typed.type(f"{WORDS}\n")
    typed.expect("added slot 2, passphrase")
    assert typed.wait() == 0
    assert WORDS not in typed.screen


def test_get_asks_on_the_terminal_though_its_output_is_a_pipe(cheap: World, terminal: Callable[..., Terminal]) -> None:
    cheap.cli("set", "aws", "key", input="secret")
    protect(cheap, key_file=True)
    shown = terminal("get", "aws", "key")
    shown.expect("Passphrase of the vault: ")
    shown.type(f"{WORDS}\n")
    shown.expect("secret")
    assert shown.wait() == 0


def test_the_recovery_code_is_shown_once(cheap: World, terminal: Callable[..., Terminal]) -> None:
    shown = terminal("protect", "add", "recovery")
    shown.expect("It is shown this once")
    assert shown.wait() == 0
    [code] = [line.strip() for line in shown.screen.splitlines() if line.count("-") == 8]
    assert len(code) == 44
    assert code not in cheap.cli("protect", "list").stdout
    listed = cheap.cli("protect", "list").stdout
    assert "the code on paper" in listed
    assert "keyfile stops whoever has vault.db without vault.key" in listed


def test_a_closed_descriptor_or_an_empty_one(cheap: World) -> None:
    protect(cheap, key_file=True)
    done = cheap.cli("get", "aws", "key", "--passphrase-fd", "77")
    assert (done.returncode, "cannot read the passphrase from descriptor 77" in done.stderr) == (1, True)
    done = tell(cheap, "get", "aws", "key", passphrase="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no daemon" not in done.stderr


def test_only_one_line_of_the_descriptor_is_taken(cheap: World) -> None:
    """What follows the passphrase on stdin is the value."""
    protect(cheap, key_file=True)
    code = (
        "import sys; from keychain_auth.client import passphrase as p; print(p.read_line(0)); print(sys.stdin.read())"
    )
    done = subprocess.run(
        [cheap.python, "-c", code],
        input=f"{WORDS}\nrest", capture_output=True, text=True, check=True, env=cheap.environment(), cwd="/",
        **cheap.user.popen(),
    )  # fmt: skip
    assert done.stdout == f"{WORDS}\nrest\n"


def test_the_client_library_asks_nobody(cheap: World, terminal: Callable[..., Terminal]) -> None:
    """A program on a terminal gets its answer at once, and the terminal shows no prompt."""
    program = cheap.write(
        "bin/app.py",
        "import sys\nfrom keychain_auth import KeychainAuthClient\n"
        "try:\n    KeychainAuthClient().get('aws', 'key')\nexcept RuntimeError as error:\n    print(error)\n",
        0o700,
    )
    cheap.cli("register", "--script", program, "--allow-declared", "--interpreter", cheap.python)
    cheap.cli("authorize", program, "aws")
    protect(cheap)
    cheap.cli("lock")
    imports = dict(cheap.installation.env) or {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = cheap.spawn([cheap.installation.interpreter, program], env=imports)
    done.wait()
    assert "Daemon rejected request: keychain_locked" in done.out.text(), done.err.text()
    assert "assphrase" not in done.out.text() + done.err.text()
    assert terminal("unlocked").wait() == 5


ASKING = (
    "approve authorize backup distrust export get history import list-secrets migrate policy:seal protect:add"
    " protect:remove protect:reseal register rekey require restore-value revoke rm set trust unlock unregister upgrade"
    " vault:check"
)


def test_whatever_may_ask_takes_a_descriptor() -> None:
    """A script has no terminal: each command that can need the passphrase can be given it."""
    context = click.Context(commands)
    for name in ASKING.split():
        command: click.Command | None = commands
        for word in name.split(":"):
            assert isinstance(command, click.Group)
            command = command.get_command(context, word)
        assert command is not None
        options = [option for parameter in command.params for option in parameter.opts]
        assert "--passphrase-fd" in options, name
