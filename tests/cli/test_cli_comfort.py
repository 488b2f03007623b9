"""get, set, rm and edit made comfortable: prefixes, the clipboard, exact bytes, an editor."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cli.lab import Terminal
from support import strays
from support.lines import until
from support.world import World

VALUE = "hunter2 \U0001f511"


@pytest.fixture
def stocked(running: World) -> World:
    for target in ("prod:a", "prod:b", "dev:a"):
        assert running.cli("set", "app", target, input=f"value of {target}").returncode == 0
    return running


# --- prefixes ---------------------------------------------------------------------------------


def test_get_by_prefix_is_one_document(stocked: World) -> None:
    rows = stocked.cli_json("get", "app", "prod:", "--prefix")
    assert rows == [
        {"service": "app", "target": f"prod:{name}", "value": f"value of prod:{name}"} for name in ("a", "b")
    ]
    for words, code in ((("get", "app", "prod:", "--prefix"), 2), (("get", "app", "no", "--prefix", "--json"), 6)):
        done = stocked.cli(*words)
        assert (done.returncode, done.stdout) == (code, "")


def test_rm_by_prefix_shows_asks_and_removes_all_at_once(stocked: World, terminal: Callable[..., Terminal]) -> None:
    done = stocked.cli("rm", "app", "prod:", "--prefix")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Next: add --yes" in done.stderr
    asked = terminal("rm", "app", "prod:", "--prefix")
    asked.expect("app prod:a")
    asked.expect("Remove these 2? [y/N]")
    asked.type("n\n")
    asked.expect("nothing was removed")
    assert asked.wait() == 1
    assert len(stocked.cli_json("list-secrets", "app")) == 3
    assert stocked.cli_json("rm", "app", "prod:", "--prefix", "--yes")["targets"] == ["prod:a", "prod:b"]
    assert [row["target"] for row in stocked.cli_json("list-secrets", "app")] == ["dev:a"]
    [line] = [line for line in stocked.audit() if line["action"] == "admin_delete"]
    assert line["targets"] == ["prod:a", "prod:b"]
    assert stocked.cli("rm", "app", "prod:", "--prefix", "--yes").returncode == 6


# --- exact bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"x\n", b"\n", b"", b"a\r\n\r\n"])
def test_stdin_byte_for_byte(running: World, content: bytes) -> None:
    assert running.cli("set", "app", "key", "--stdin", input=content).returncode == 0
    assert running.cli_json("get", "app", "key")["value"] == content.decode()


def test_stdin_is_taken_from_a_terminal_too(running: World, terminal: Callable[..., Terminal]) -> None:
    typed = terminal("set", "app", "key", "--stdin")
    typed.type("one\ntwo\n\x04")
    assert typed.wait() == 0
    assert running.cli_json("get", "app", "key")["value"] == "one\ntwo\n"


# --- the clipboard ----------------------------------------------------------------------------


@pytest.fixture
def desktop(running: World) -> Iterator[dict[str, str]]:
    """The environment of a real X server without a screen."""
    server = shutil.which("Xvfb")
    if server is None or shutil.which("xclip") is None:
        pytest.skip("no Xvfb or no xclip on this machine: apt-get install xvfb xclip")
    process = running.spawn([server, "-displayfd", "1", "-screen", "0", "16x16x8", "-nolisten", "tcp"])
    process.end_input()
    number = process.out[process.out.find(lambda line: line.strip().isdigit())].decode().strip()
    yield {"DISPLAY": f":{number}"}
    process.kill()


def held(world: World, desktop: dict[str, str]) -> str:
    done = subprocess.run(
        ["xclip", "-selection", "clipboard", "-out"], env=world.environment(desktop), capture_output=True, check=False,
        timeout=60, **world.user.popen(),
    )  # fmt: skip
    return done.stdout.decode()


def test_the_clipboard_holds_it_for_a_time(running: World, desktop: dict[str, str]) -> None:
    running.cli("set", "app", "key", input=VALUE)
    done = running.cli("get", "app", "key", "--clip", "--clip-seconds", "6", env=desktop)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "app key: on the clipboard for 6 seconds\n"
    assert held(running, desktop) == VALUE
    until(lambda: held(running, desktop) == "", "it is cleared")
    until(lambda: not watchers(running), "the one that cleared it ends")


def test_what_was_copied_meanwhile_stays(running: World, desktop: dict[str, str]) -> None:
    running.cli("set", "app", "key", input=VALUE)
    running.cli("set", "app", "other", input="copied later")
    assert running.cli("get", "app", "key", "--clip", "--clip-seconds", "5", env=desktop).returncode == 0
    [waiting] = watchers(running)
    running.cli("get", "app", "other", "--clip", "--clip-seconds", "600", env=desktop)
    until(lambda: not os.path.exists(f"/proc/{waiting}"), "the time of the first is over")
    assert held(running, desktop) == "copied later"
    for pid in watchers(running):  # it would wait for ten minutes
        os.kill(pid, 9)


def watchers(world: World) -> list[int]:
    """The processes that wait to clear the clipboard; none of them knows the value."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read()
            with open(f"/proc/{name}/environ", "rb") as file:
                environ = file.read()
        except OSError:
            continue
        if b"keychain_auth.cli.commands.secrets.clipboard" in words and world.home.encode() in environ:
            assert VALUE.encode() not in words + environ
            found.append(int(name))
    return found


def test_without_a_desktop_the_terminal_is_asked(running: World, terminal: Callable[..., Terminal]) -> None:
    running.cli("set", "app", "key", input="hunter2")
    shown = terminal("get", "app", "key", "--clip")
    assert shown.wait() == 0
    assert "\x1b]52;c;aHVudGVyMg==\x07" in shown.screen
    assert "it stays there, clear it yourself" in shown.screen
    assert "hunter2" not in shown.screen
    done = running.cli("get", "app", "key", "--clip")  # no terminal either
    if done.returncode:
        assert "there is no clipboard" in done.stderr
    assert "hunter2" not in done.stdout


# --- edit -------------------------------------------------------------------------------------


def edit(world: World, script: str, target: str = "key") -> Any:
    """Edit with a shell script, which gets the file as $1."""
    editor = world.write("bin/editor", f"#!/bin/sh\n{script}\n", 0o755)
    return world.cli("edit", "app", target, env={"EDITOR": f"{editor} --wait", "VISUAL": None})


def test_a_value_is_changed_in_an_editor(running: World) -> None:
    running.cli("set", "app", "key", input="old")
    look = f'stat -c "%a %n" "$2" "$(dirname "$2")" > {running.path("seen")}; cat "$2" >> {running.path("seen")}'
    done = edit(running, f'{look}; echo new > "$2"')
    assert (done.returncode, done.stdout, done.stderr) == (0, "stored app key\n", "")
    assert running.cli("get", "app", "key").stdout == "new"
    with open(running.path("seen"), encoding="utf-8") as file:
        first, second, value = file.read().splitlines()
    assert first.startswith("600 ")
    assert second.startswith(f"700 {running.path('run')}/")
    assert value == "old"
    assert not os.path.exists(second.partition(" ")[2])
    assert running.cli_json("history", "app", "key")


@pytest.mark.parametrize(
    ("script", "code", "said", "value"),
    [
        ("true", 0, "unchanged app key\n", "old\n\nend\n"),
        ("rm $2", 1, "", "old\n\nend\n"),
        ("echo evil > $2; exit 3", 1, "", "old\n\nend\n"),
        ("printf '\\377' > $2", 2, "", "old\n\nend\n"),
        ("printf 'no newline' > $2", 0, "stored app key\n", "no newline"),
        ("cp $2 $2.tmp; echo x >> $2.tmp; mv $2.tmp $2; touch $2~", 0, "stored app key\n", "old\n\nend\n\nx"),
    ],
)
def test_nothing_is_stored_unless_it_changed_and_the_editor_ended_well(
    running: World, script: str, code: int, said: str, value: str
) -> None:
    running.cli("set", "app", "key", "--stdin", input="old\n\nend\n")
    done = edit(running, script)
    assert (done.returncode, done.stdout) == (code, said)
    assert "Traceback" not in done.stderr
    assert running.cli_json("get", "app", "key")["value"] == value
    assert not [name for name in os.listdir(running.path("run")) if name.startswith("keychain-auth-edit")]


def test_a_secret_that_is_not_there_begins_empty(running: World) -> None:
    assert edit(running, "true").stdout == "unchanged app key\n"
    assert running.cli_json("list-secrets") == []
    assert edit(running, 'echo fresh > "$2"').returncode == 0
    assert running.cli("get", "app", "key").stdout == "fresh"


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGKILL])
def test_expected_open_only_after_a_kill_a_value_stays_in_the_editors_file(running: World, how: signal.Signals) -> None:
    """A terminal that is closed is a SIGHUP: the naive way, which ends there, is what a SIGKILL does."""
    running.cli("set", "app", "key", input=VALUE)
    editor = running.write("bin/editor", '#!/bin/sh\necho "pid $$"\nexec sleep 600\n', 0o755)
    words = [running.python, "-m", "keychain_auth", "edit", "app", "key", "--socket", running.socket]
    person = running.spawn(words, env={"EDITOR": editor, "VISUAL": None})
    [pid] = [int(line.split()[1]) for line in [person.out[person.out.find(lambda line: line.startswith(b"pid "))]]]
    place = running.path("run")
    assert left_by_editors(place) == [VALUE.encode() + b"\n"]
    person.signal(how)
    assert person.wait() == (-how if how is signal.SIGKILL else 128 + how)
    if how is signal.SIGKILL:
        assert left_by_editors(place) == [VALUE.encode() + b"\n"]
        os.kill(pid, signal.SIGKILL)
        for name in os.listdir(place):
            if name.startswith("keychain-auth-edit"):
                shutil.rmtree(os.path.join(place, name))
    else:
        assert left_by_editors(place) == []
        assert strays.ends(pid)  # it was told to
    assert running.cli_json("get", "app", "key")["value"] == VALUE


# A signal comes when the editor runs already, and the command has not been told of it yet.
_INTERRUPTED = """
import os, signal, subprocess, sys
start = subprocess.Popen._execute_child
def interrupted(self, *words):
    start(self, *words)
    os.kill(os.getpid(), getattr(signal, how))
subprocess.Popen._execute_child = interrupted
from keychain_auth.cli import main
how = sys.argv.pop()
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("how", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_an_editor_that_has_just_begun_ends_too(running: World, how: str, code: int) -> None:
    running.cli("set", "app", "key", input=VALUE)
    editor = running.write("bin/editor", "#!/bin/sh\nexec sleep 600\n", 0o755)
    words = [running.python, "-c", _INTERRUPTED, "edit", "app", "key", "--socket", running.socket, how]
    person = running.spawn(words, env={"EDITOR": editor, "VISUAL": None})
    assert person.wait() == code, person.err.text()
    assert strays.marked(editor) == []
    assert left_by_editors(running.path("run")) == []


def left_by_editors(place: str) -> list[bytes]:
    found = []
    for name in os.listdir(place):
        if name.startswith("keychain-auth-edit"):
            with open(os.path.join(place, name, "value"), "rb") as file:
                found.append(file.read())
    return found


def test_there_is_no_editor_without_a_terminal(running: World) -> None:
    done = running.cli("edit", "app", "key", env={"EDITOR": None, "VISUAL": None})
    assert (done.returncode, done.stdout) == (2, "")
    assert "Next: keychain-auth set app key" in done.stderr
    done = running.cli("edit", "app", "key", env={"EDITOR": "/no/such/editor", "VISUAL": None})
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot start /no/such/editor" in done.stderr
