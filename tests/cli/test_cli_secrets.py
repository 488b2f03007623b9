"""set, get, list-secrets, rm: values in and out without being seen on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from cli.lab import Terminal
from daemon.requests import read, results
from support.lines import until
from support.world import World


@pytest.mark.parametrize(
    ("stdin", "stored"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"two\nlines\n\n", "two\nlines\n"),
        (b"\r\n", "\r"),
        (b"", ""),
        (b"\n", ""),
        ("ünï \U0001f511\x00\x1b[2J".encode(), "ünï \U0001f511\x00\x1b[2J"),
        (b"x" * (256 * 1024), "x" * (256 * 1024)),
    ],
    ids=range(8),
)
def test_a_value_comes_back_as_it_went_in(running: World, stdin: bytes, stored: str) -> None:
    assert running.cli("set", "aws", "key", input=stdin).returncode == 0
    done = running.cli("get", "aws", "key")
    assert (done.returncode, done.stdout, done.stderr) == (0, stored, "")  # a pipe: exactly, without a newline
    assert running.cli_json("get", "aws", "key") == {"service": "aws", "target": "key", "value": stored}


def test_programs_and_people_share_the_secrets(running: World) -> None:
    program = running.granted("talker", "aws")
    assert running.cli_json("set", "aws", "a", input="v") == {"outcome": "stored", "service": "aws", "target": "a"}
    assert running.talker(program).ask(read("a")) == results({"target": "a", "value": "v"})


@pytest.mark.parametrize(
    ("words", "stdin", "why"),
    [
        (("set", "aws", "key"), b"caf\xe9 secret", "not UTF-8"),
        (("set", "aws", "key"), b"x" * (256 * 1024 + 1), ""),
        (("set", "aws", "key"), b"x" * (2 * 1024 * 1024), "too long"),
        (("set", "aws", "key"), b"x" * (16 * 1024 * 1024 + 1), "longer than"),
        (("set", "", "key"), b"secret", ""),
        (("set", "aws", "bad\nname"), b"secret", ""),
        (("get", "aws", "bad\nname"), b"", ""),
        (("get", "aws", "\udcff"), b"", "UTF-8"),
    ],
    ids=range(8),
)
def test_what_cannot_be_stored_is_refused(running: World, words: tuple[str, ...], stdin: bytes, why: str) -> None:
    done = running.cli(*words, input=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert "xxxx" not in done.stderr
    assert running.cli_json("list-secrets") == []


def test_what_is_not_there_is_exit_code_6(running: World) -> None:
    for words in (("get", "aws", "no"), ("rm", "aws", "no"), ("get", "aws", "no", "--json")):
        done = running.cli(*words)
        assert (done.returncode, done.stdout) == (6, "")
        assert "Next: keychain-auth list-secrets aws" in done.stderr


def test_list_and_remove(running: World) -> None:
    assert running.cli("list-secrets").stdout == "No such secret.\n"
    for service, target in (("aws", "prod/a"), ("aws", "dev/b"), ("openai", "key")):
        running.cli("set", service, target, input="hunter2")
    rows = running.cli_json("list-secrets")
    assert [(row["service"], row["target"]) for row in rows] == [("aws", "dev/b"), ("aws", "prod/a"), ("openai", "key")]
    assert [row["target"] for row in running.cli_json("list-secrets", "aws", "--prefix", "prod/")] == ["prod/a"]
    assert "hunter2" not in running.cli("list-secrets").stdout
    answer = running.cli_json("rm", "aws", "prod/a")
    assert answer == {"outcome": "removed", "service": "aws", "target": "prod/a"}
    assert [row["target"] for row in running.cli_json("list-secrets", "aws")] == ["dev/b"]


def test_names_from_clients_cannot_play_with_the_terminal(running: World, terminal: Callable[..., Terminal]) -> None:
    running.granted("talker", "aws")
    hidden = "a\u202e[red]b\u200b"
    running.talker(running.path("bin/talker")).ask(
        {"type": "REQUEST", "action": "write", "service": "aws", "targets": [hidden], "values": ["v"],
         "attributes": {"n": "\u2028x"}}
    )  # fmt: skip
    shown = terminal("list-secrets")
    assert shown.wait() == 0
    for text in (shown.screen, running.cli("list-secrets").stdout):
        assert "a\\u202e[red]b\\u200b" in text
        assert "n=\\u2028x" in text


def test_each_use_is_on_record_without_its_value(running: World) -> None:
    running.cli("set", "aws", "key", input="hunter2")
    running.cli("get", "aws", "key")
    running.cli("rm", "aws", "key")
    found = [(line["action"], line["service"], line["targets"]) for line in running.audit() if line["service"]]
    assert found == [(f"admin_{action}", "aws", ["key"]) for action in ("write", "read", "delete")]
    running.assert_nowhere("hunter2")


# --- on a terminal ----------------------------------------------------------------------------


def test_the_prompt_hides_what_is_typed_and_asks_twice(running: World, terminal: Callable[..., Terminal]) -> None:
    typed = terminal("set", "aws", "key")
    typed.expect("Value of aws key: ")
    typed.type("hunter2\n")
    typed.expect("The same again: ")
    typed.type("hunter2\n")
    typed.expect("stored aws key")
    assert typed.wait() == 0
    assert "hunter2" not in typed.screen
    assert running.cli("get", "aws", "key").stdout == "hunter2"


def test_two_different_values_store_nothing(running: World, terminal: Callable[..., Terminal]) -> None:
    typed = terminal("set", "aws", "key")
    typed.expect("Value of aws key: ")
    typed.type("hunter2\n")
    typed.expect("The same again: ")
    typed.type("hunter3\n")
    assert typed.wait() == 2
    assert "nothing was stored" in typed.screen
    assert "hunter" not in typed.screen
    assert running.cli_json("list-secrets") == []


def test_a_value_is_never_an_argument(running: World, terminal: Callable[..., Terminal]) -> None:
    # What every process of the machine can read of another: its command line (and ``ps`` shows it).
    typed = terminal("set", "aws", "key")
    typed.expect("Value of aws key: ")
    typed.type("hunter2\n")
    typed.expect("The same again: ")
    with open(f"/proc/{typed.process.pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    assert words[-4:] == [b"set", b"aws", b"key", b""]
    typed.type("hunter2\n")
    assert typed.wait() == 0
    # There is no word order that takes one.
    done = running.cli("set", "aws", "key", "hunter3", input="")
    assert (done.returncode, running.cli("get", "aws", "key").stdout) == (2, "hunter2")


def test_get_on_a_terminal_ends_the_line_and_escapes_controls(
    running: World, terminal: Callable[..., Terminal]
) -> None:
    running.cli("set", "aws", "key", input="-----BEGIN\tKEY-----\nab\x1b[2Jcd\r")
    shown = terminal("get", "aws", "key")
    assert shown.wait() == 0
    shown_lines = shown.screen.replace("\r\n", "\n").expandtabs()
    assert shown_lines == "-----BEGIN\tKEY-----\nab\\x1b[2Jcd\\r\n".expandtabs()


def test_tables_on_a_terminal(running: World, terminal: Callable[..., Terminal]) -> None:
    running.cli("register", running.build_client())
    shown = terminal("list")
    assert shown.wait() == 0
    assert running.path("bin/talker") in shown.screen
    assert "\x1b[1m" in shown.screen  # a bold header, which a pipe does not get
    assert "\x1b" not in running.cli("list").stdout


# --- the daemon's answers ---------------------------------------------------------------------


def test_a_daemon_that_ends_in_the_middle_is_told(running: World) -> None:
    process = running.spawn([running.python, "-m", "keychain_auth.cli.main", "set", "aws", "key"])
    process.feed(b"hunter2")
    until(lambda: os.path.exists(f"/proc/{process.pid}/fd/0"), "the command runs")
    for daemon in running._processes[:1]:
        daemon.stop()  # type: ignore[attr-defined]
    process.end_input()
    assert process.wait() == 4
    assert "is not running" in process.err.text()


def test_json_is_ascii(running: World) -> None:
    running.cli("set", "aws", "ünï", input="\u202e")
    text = running.cli("get", "aws", "ünï", "--json").stdout
    assert text.isascii()
    assert json.loads(text)["value"] == "\u202e"
