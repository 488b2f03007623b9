"""What all commands have in common: exit codes, messages, streams, and how little the fast path loads."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator

import click
import pytest

from cli.lab import NOT_RUNNING, Terminal, closed_stream, modules_after
from keychain_auth.cli.app import commands
from keychain_auth.cli.main import plain_get
from keychain_auth.cli.report import printable
from support.lines import until
from support.world import World

ASKS_THE_DAEMON = (
    ("status",),
    ("get", "aws", "key"),
    ("get", "aws", "key", "--socket=/nowhere/agent.sock"),
    ("set", "aws", "key"),
    ("list-secrets",),
    ("rm", "aws", "key"),
)
WRONG = (
    (),
    ("no-such-command",),
    ("status", "--no-such-option"),
    ("status", "superfluous"),
    ("get", "aws"),
    ("get", "aws", "a", "b"),
    ("get", "aws", "a", "-s"),
    ("register",),
    ("register", "--interpreter", "/bin/sh", "/bin/ls"),
    ("approve", "1234567"),
    ("approve", "not-hexadecimal"),
    ("audit",),
    ("audit", "tail", "-n", "0"),
    ("authorize", "/bin/ls", "two\nlines"),
    ("status", "--socket", ""),
)


@pytest.mark.parametrize("words", ASKS_THE_DAEMON, ids=" ".join)
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_without_a_daemon_every_command_says_so(world: World, words: tuple[str, ...], more: tuple[str, ...]) -> None:
    done = world.cli(*words, *more, input="value")
    assert (done.returncode, done.stdout, done.stderr) == (4, "", NOT_RUNNING)


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_usage_is_exit_code_2(world: World, words: tuple[str, ...]) -> None:
    done = world.cli(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert not words or len(done.stderr.splitlines()) <= 2


def test_a_command_that_there_is_not_is_told_of_one_that_there_is(world: World) -> None:
    typed = (("authorise", "x"), ("audit", "serch"), ("xy",))
    said = [world.cli(*words).stderr.splitlines()[0] for words in typed]
    assert said == [
        "No such command 'authorise'. Did you mean 'authorize'?",
        "No such command 'serch'. Did you mean 'search'?",
        "No such command 'xy'.",
    ]


@pytest.mark.parametrize("group", ["policy", "vault", "protect", "canary", "audit"])
def test_a_group_without_a_command_says_which_there_are(world: World, group: str) -> None:
    done = world.cli(group)
    first, second = done.stderr.splitlines()
    assert first.startswith("Missing command: ")
    assert {"policy": "seal", "vault": "check"}.get(group, "list" if group != "audit" else "verify") in first
    assert second == f"Next: keychain-auth {group} --help"


@pytest.mark.parametrize(
    ("words", "next_step"),
    [
        (("set", "two\nlines", "key"), "keychain-auth set --help"),
        (("authorize", "/bin/ls", ""), "keychain-auth authorize --help"),
        (("audit", "search", "--since", "yesterday"), "keychain-auth audit search --help"),
        (("register", "/nowhere/at/all"), "keychain-auth register --help"),
        (("run", "--only", "NOPE", "--", "true"), "keychain-auth run --help"),
        (("conformance", "--socket"), "keychain-auth conformance --help"),
        (("audit", "report", "--html", "/nowhere/page.html"), "ls -ld /nowhere/page.html"),
        (("sign", "/etc/hosts", "--key", "KEY"), "ls -ld /etc/hosts"),
    ],
    ids=lambda given: " ".join(given).replace("\n", " ") if isinstance(given, tuple) else None,
)
def test_every_error_says_what_to_do_next(world: World, words: tuple[str, ...], next_step: str) -> None:
    """Also where nobody thought of something better: the command's own help, or a look at the file."""
    world.start()
    key = world.path("key.pem")
    world.cli("keygen", "--out", key)
    done = world.cli(*(key if word == "KEY" else word for word in words), input="value")
    first, second = done.stderr.splitlines()
    assert second == f"Next: {next_step}"
    assert "/etc/." not in first  # the name of a temporary file is nobody's


def test_choices_stand_in_one_line(world: World) -> None:
    done = world.cli("export", "-")
    assert done.stderr.startswith("Missing option '--format'. Choose from: json, dotenv, ")
    assert "\\" not in done.stderr


def test_a_shell_may_be_spelt_as_its_makers_do(world: World) -> None:
    assert world.cli("completion", "PowerShell").stdout == world.cli("completion", "powershell").stdout != ""


def test_where_nobody_can_answer_nobody_is_asked(world: World) -> None:
    world.start()
    done = world.cli("approve", "--interactive", before=("/bin/sh", "-c", 'exec "$@" </dev/null', "sh"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "nobody can answer" in done.stderr


@pytest.mark.parametrize(
    "words", [("--help",), ("get", "--help"), ("audit", "verify", "-h"), ("--version",)], ids=" ".join
)
def test_help_is_an_answer(world: World, words: tuple[str, ...]) -> None:
    done = world.cli(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def every_command(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The words of each command of ``group`` and below it, and what its --help says."""
    above = click.Context(group, info_name=" ".join(("keychain-auth", *words)))
    for name in group.list_commands(above):
        command = group.get_command(above, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, (*words, name))
        else:
            yield (*words, name), command.get_help(click.Context(command, above, info_name=name))


# An exit code, what another program prints, and what is for programs as it is.
NO_JSON = ("unlocked", "launch", "run", "mcp", "completion", "manual")


def test_help_shows_each_command_once_in_its_section(world: World) -> None:
    shown = world.cli("--help").stdout
    secrets = shown[shown.index("\nSecrets:\n") : shown.index("\nPrograms that use them:\n")]
    assert re.search(r"^  set +Store a secret\.$", secrets, re.MULTILINE)
    named = re.findall(r"^  ([a-z-]+)  ", shown[shown.index("\nSecrets:\n") :], re.MULTILINE)
    assert named == commands.list_commands(click.Context(commands))
    assert set(named) == {name for name, *_ in dict(every_command(commands))}


def test_every_command_explains_itself_and_takes_json() -> None:
    for words, text in every_command(commands):
        assert text.startswith(f"Usage: keychain-auth {' '.join(words)} ")
        if words[0] not in NO_JSON:
            assert ("--log-json" if words == ("start",) else "--json") in text, words


def test_python_dash_m_is_the_same_command(world: World) -> None:
    done = subprocess.run(
        [world.python, "-m", "keychain_auth", "status"], env=world.environment(), capture_output=True, text=True,
        check=False, **world.user.popen(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (4, NOT_RUNNING)


def test_an_untrusted_listener_is_sent_nothing(running: World) -> None:
    os.chmod(os.path.dirname(running.socket), 0o777)
    done = running.cli("set", "aws", "key", input="hunter2")
    assert done.returncode == 1
    assert "not trusted" in done.stderr
    assert "chmod go-w" in done.stderr
    os.chmod(os.path.dirname(running.socket), 0o700)
    assert running.cli_json("list-secrets") == []


# --- the fast path ----------------------------------------------------------------------------


def test_get_loads_nothing_heavy(running: World) -> None:
    running.cli("set", "aws", "key", input="v")
    loaded = modules_after(running, ["get", "aws", "key"])
    heavy = {
        "click",
        "rich",
        "msgspec",
        "asyncio",
        "cryptography",
        "sqlite3",
        "argparse",
        "typing",
        "importlib",
        "ctypes",
    }
    assert not {name.partition(".")[0] for name in loaded} & heavy
    ours = {name for name in loaded if name.startswith("keychain_auth.")}
    ours -= {"keychain_auth.wire", "keychain_auth.wire.quick_json"}  # the one part of the wire that it needs
    assert not {
        name for name in ours if name.split(".")[1] in ("daemon", "keychain", "crypto", "audit", "policy", "wire")
    }
    assert "keychain_auth.cli.app" not in loaded
    # The same look shows the heavy parts when another command is run, so it can see them.
    assert {"click", "keychain_auth.cli.app"} <= modules_after(running, ["list-secrets"])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["get", "aws", "a"], ("aws", "a", None, False)),
        (["get", "-s", "/x", "aws", "--json", "a"], ("aws", "a", "/x", True)),
        (["get", "aws", "a", "--socket", "/y"], ("aws", "a", "/y", False)),
        (["get", "aws", "a", "--socket=/y"], None),
        (["get", "aws", "a", "-s"], None),
        (["get", "aws", "--help"], None),
        (["get", "aws"], None),
        (["get", "--", "-aws", "a"], None),
        (["set", "aws", "a"], None),
        ([], None),
    ],
)
def test_what_is_plainly_a_get(words: list[str], parts: tuple[str, str, str | None, bool] | None) -> None:
    assert plain_get(words) == parts


def test_the_long_way_of_get_does_the_same(running: World) -> None:
    running.cli("set", "--", "-svc", "-key", input="v")
    for words in (("get", "--", "-svc", "-key"), ("get", f"--socket={running.socket}", "--", "-svc", "-key")):
        done = running.cli(*words)
        assert (done.returncode, done.stdout) == (0, "v")


# --- streams ----------------------------------------------------------------------------------


def test_a_reader_that_leaves_is_no_failure_worth_a_word(world: World) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [world.python, "-m", "keychain_auth", "list", "--json"], env=world.environment(), stdout=writing,
        stderr=subprocess.PIPE, check=False, **world.user.popen(),
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_answer_that_cannot_be_written_is_a_failure(world: World) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [world.python, "-m", "keychain_auth", "list"], env=world.environment(), stdout=full,
            stderr=subprocess.PIPE, check=False, **world.user.popen(),
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, b"the system says: No space left on device\n")


def test_a_closed_stdout_does_not_become_the_daemons_socket(running: World) -> None:
    running.cli("set", "aws", "key", input="hunter2")
    done = closed_stream(running, 1, "get", "aws", "key")
    assert done.returncode == 1
    assert b"Bad file descriptor" in done.stderr
    assert closed_stream(running, 2, "get", "aws", "key").stdout == b"hunter2"
    assert closed_stream(running, 0, "set", "aws", "key").returncode == 2  # no stdin is not an empty value
    assert running.cli("get", "aws", "key").stdout == "hunter2"


def test_ctrl_c_is_130(running: World, terminal: Callable[..., Terminal]) -> None:
    typed = terminal("set", "aws", "key")
    typed.expect("Value of aws key: ")
    typed.type("half a sec\x03")
    assert typed.wait() == 130
    assert "Traceback" not in typed.screen
    assert running.cli_json("list-secrets") == []


def test_ctrl_c_while_the_daemon_is_asked(world: World) -> None:
    # A stopped daemon accepts (its kernel does) and never answers: the command waits, and can be interrupted.
    daemon = world.start()
    daemon.signal(signal.SIGSTOP)
    process = world.spawn([world.python, "-X", "importtime", "-m", "keychain_auth.cli.main", "get", "aws", "key"])
    process.err.find(lambda line: b"keychain_auth.client.admin" in line)
    until(lambda: _polls(process.pid), "the command waits for an answer")
    process.signal(signal.SIGINT)
    assert process.wait() == 130
    assert "Traceback" not in process.err.text()
    daemon.signal(signal.SIGCONT)


def _polls(pid: int) -> bool:
    """Does the process wait in poll(2)? The kernel says in which of its functions it sleeps."""
    with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
        return "poll" in file.read()


# --- text of unknown origin -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode", "plain ünïcode"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("two\nlines\ttab", "two\\nlines\\ttab"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\udcff", "\\udcff"),
        ("\u2028\u200b\U000e0041", "\\u2028\\u200b\\U000e0041"),
        ("git\u3164\u2800\ufe0f\u034f", "git\\u3164\\u2800\\ufe0f\\u034f"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_no_name_looks_like_another_by_what_cannot_be_seen() -> None:
    """Python calls all of these printable, and a terminal shows nothing, or a blank, in their place."""
    for unseen in "\u115f\u1160\u3164\uffa0\u2800\u034f\ufe00\ufe0f\U000e0100\u180b\u17b4":
        assert f"git{unseen}".isprintable()
        assert printable(f"git{unseen}") == f"git{unseen.encode('unicode_escape').decode()}"


def test_printable_keeps_what_it_is_told_to() -> None:
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def test_names_of_programs_cannot_play_with_the_terminal(world: World) -> None:
    evil = world.path("bin", "evil\x1b]0;owned\x07\nfake line")
    os.rename(world.build_client(), evil)
    for words in (("register", evil), ("list",), ("check", evil), ("authorize", evil, "aws"), ("unregister", evil)):
        done = world.cli(*words)
        assert done.returncode == 0
        text = done.stdout + done.stderr
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\nfake" not in text
        assert "evil\\x1b" in text
    missing = world.cli("upgrade", evil)
    assert missing.returncode == 6
    assert len(missing.stderr.splitlines()) == 2
    assert "\x1b" not in missing.stderr
