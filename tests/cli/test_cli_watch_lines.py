"""approve --interactive where there is no screen: the same questions, in plain lines."""

from __future__ import annotations

import io
import signal

import pytest

from cli.approving_lab import asked, entry_of
from cli.lab import Terminal
from daemon.requests import PENDING, denied, read, request
from keychain_auth.cli.commands.approving import lines
from keychain_auth.cli.commands.approving.asking import (
    Asked,
    Looked,
)
from keychain_auth.daemon.places import find_places
from support.waiting import Onlooker
from support.world import World


def test_the_same_in_plain_lines(running: World, look: Onlooker) -> None:
    running.cli("set", "aws", "key", input="hunter2")
    talker = running.asking(request("search", wait=600))
    look.until()
    words = [running.python, "-m", "keychain_auth", "approve", "--interactive"]
    person = running.spawn(words, env={"KEYCHAIN_AUTH_SOCKET": running.socket})
    person.out.find(lambda line: b"[l] later?" in line)
    person.feed(b"x\no\ns\n")  # no such answer, one that is not possible for a search, and one that is
    assert talker.answer()["status"] == "success"
    person.out.find(lambda line: b"this service" in line and b"Allow" not in line)
    person.signal(signal.SIGINT)
    assert person.wait() == 130
    assert "a search, a check or a prefix cannot be allowed for a time" in person.err.text()
    assert f"verified  program     {running.path('bin/talker')}" in person.out.text()
    assert "[n] never: nothing: it is known from now on" in person.out.text()  # what an unknown answer is told
    assert entry_of(running, running.path("bin/talker"))["allowed_read_services"] == ["aws"]


def test_who_was_refused_at_once_is_not_asked_about_but_told_of(running: World, look: Onlooker) -> None:
    assert running.talker(running.build_client("other", "other")).ask(read("a")) == denied(PENDING)
    talker = running.talker()
    talker.send(read("a", wait=60))
    look.until()
    person = running.spawn([running.python, "-m", "keychain_auth", "approve", "--interactive"])
    person.out.find(lambda line: line.startswith(b"Refused already, and not asked about here: 1."))
    person.signal(signal.SIGINT)
    assert person.wait() == 130


def test_what_was_answered_is_not_asked_again_while_the_daemon_still_lists_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script is looked at anew for a second and more, as its own new version: nobody may be asked about that."""
    once, other = asked({"action": "read"}), asked({"action": "write"})
    places = find_places("/nowhere/agent.sock")
    told: list[Asked] = []
    lists = iter(((1, [once]), (2, [once]), (3, [once, other])))
    monkeypatch.setattr(lines, "who_waits", lambda _places, _version: next(lists))
    monkeypatch.setattr(lines, "look_into", lambda _places, _asked: Looked())
    monkeypatch.setattr(lines, "answer", lambda _places, one, _looked, _choice: told.append(one) or "done")
    monkeypatch.setattr("sys.stdin", io.StringIO("s\n"))
    assert lines.decide(places) == 0  # the input ends at the question about the other request
    assert told == [once]
    assert capsys.readouterr().out.count("read aws a") == 1


def test_who_is_put_off_goes_on_waiting_and_the_next_one_is_shown(running: World, look: Onlooker) -> None:
    first = running.asking(read("a", wait=600), running.build_client("first", "one"))
    look.until(1)
    words = [running.python, "-m", "keychain_auth", "approve", "--interactive"]
    person = running.spawn(words, env={"KEYCHAIN_AUTH_SOCKET": running.socket})
    person.out.find(lambda line: b"bin/first" in line)
    person.feed(b"l\n")
    second = running.asking(read("a", wait=600), running.build_client("second", "two"))
    at = person.out.find(lambda line: b"bin/second" in line)
    person.out.find(lambda line: b"[l] later?" in line, at)
    person.feed(b"d\n")
    assert second.answer() == denied(PENDING)
    assert first.answers() == []
    person.signal(signal.SIGINT)
    assert person.wait() == 130


@pytest.mark.parametrize("naive", [True, False])
def test_a_key_that_was_pressed_twice_answers_one_program(running: World, look: Onlooker, naive: bool) -> None:
    """On a terminal what is typed waits: for the next question, about whoever is there by then."""
    first = running.asking(read("a", wait=600), running.build_client("first", "one"))
    look.until(1)
    second = running.asking(read("a", wait=600), running.build_client("second", "two"))
    look.until(2)
    take_all = "lines._forget_typed = lambda: None;" if naive else ""
    code = f"import os, sys; os.environ['KEYCHAIN_AUTH_SOCKET'] = {running.socket!r};"
    code += f"from keychain_auth.cli import main; from keychain_auth.cli.commands.approving import lines; {take_all}"
    code += "sys.exit(main.main(sys.argv[1:]))"
    person = Terminal(running, "-c", code, "approve", "--interactive", shell=running.python)
    try:
        person.expect("bin/first")
        person.expect("later?")
        person.type("d\nd\n")
        person.expect("bin/second")
        person.expect("later?")
        assert first.answer() == denied(PENDING)
        if naive:
            assert second.answer() == denied(PENDING)
        else:
            person.type("l\n")
            assert second.answers() == []
            assert [one["path"] for one in look.now()] == [running.path("bin/second")]
    finally:
        person.close()


def test_a_file_that_was_exchanged_meanwhile_is_not_approved(running: World, look: Onlooker) -> None:
    program = running.build_client(variant="one")
    talker = running.asking(read("a", wait=600), program)
    look.until()
    words = [running.python, "-m", "keychain_auth", "approve", "-i"]
    person = running.spawn(words, env={"KEYCHAIN_AUTH_SOCKET": running.socket})
    person.out.find(lambda line: b"[l] later?" in line)
    running.build_client(variant="two")
    person.feed(b"s\n")
    person.err.find(lambda line: b"is not the file any more that asked" in line)
    assert running.read_policy()["registered_binaries"] == []
    assert talker.answers() == []


def test_approve_wants_a_hash_or_to_be_interactive(world: World) -> None:
    assert world.cli("approve").returncode == 2
    assert world.cli("approve", "-i", "aaaaaaaa").returncode == 2
    assert world.cli("approve", "-i").returncode == 4
