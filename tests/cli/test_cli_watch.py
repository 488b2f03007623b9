"""watch and approve --interactive: a person decides about programs that wait, and the daemon does just that."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from cli.approving_lab import asked, entry_of
from cli.lab import Terminal
from daemon.requests import PENDING, denied, read, write
from keychain_auth.cli.commands.approving.asking import (
    Choice,
    Looked,
    Permission,
    choices,
    facts,
    permissions,
    why_not,
)
from support.person import WORDS, protect
from support.process import Process
from support.waiting import Onlooker
from support.world import World

# --- what can be chosen -------------------------------------------------------------------------


def test_wishes_come_to_one_permission_for_each_service() -> None:
    found = permissions(
        asked({"action": "read"}, {"action": "write", "targets": ["b"]}, {"action": "search", "service": "gh"})
    )
    assert found == [
        Permission("aws", read=True, write=True, search=False, exact=("a", "b"), requests=2),
        Permission("gh", read=True, write=False, search=True, exact=None, requests=1),
    ]


def test_what_searches_is_not_allowed_for_a_time() -> None:
    for want in ({"action": "search"}, {"action": "check"}, {"action": "read", "match": "prefix"}):
        possible = choices(asked(want), Looked())
        assert Choice.ONCE not in possible and Choice.TEN_MINUTES not in possible
        assert Choice.SERVICE in possible
    assert choices(asked({"action": "read"}), Looked()) == list(Choice)


def test_a_new_version_of_a_registered_program_is_renewed_or_not() -> None:
    looked = Looked(grants=("read aws", "write aws"))
    assert choices(asked({"action": "read"}), looked) == [Choice.GOOD, Choice.NOT_NOW]
    assert "grants of the version before" in why_not(Choice.ONCE, asked({"action": "read"}), looked)


def test_who_is_not_the_file_at_its_path_can_only_be_put_off() -> None:
    assert choices(asked({"action": "read"}), Looked(problem="it was exchanged")) == [Choice.NOT_NOW]


def test_each_fact_says_how_it_is_known() -> None:
    standing = {fact.name: fact.standing for fact in facts(asked({"action": "read"}), Looked())}
    assert standing == {
        "program": "verified", "wants": "asked", "hash": "verified", "grade": "verified", "package": "verified",
        "signer": "verified", "user": "verified", "arguments": "claimed", "started by": "claimed", "waits": "verified",
    }  # fmt: skip
    looked = Looked(package="tool", package_fits=False, signer="signed by a key that is not trusted here")
    standing = {fact.name: fact.standing for fact in facts(asked({"action": "read"}), looked)}
    assert (standing["package"], standing["signer"]) == ("claimed", "claimed")


def test_a_name_cannot_pass_for_several_wishes() -> None:
    [wants] = [fact.text for fact in facts(asked({"action": "read", "targets": ["a; write x", "b"]}), Looked())][1:2]
    assert wants == "read aws 'a; write x', b"


def test_what_a_person_could_overlook_is_not_granted() -> None:
    """Twenty long names in front of it, and the wish that counts stands below the end of the screen."""
    junk = {"service": "notes", "targets": [f"{number:02d}{'x' * 1000}" for number in range(20)]}
    evil = asked({"action": "read", **junk}, {"action": "read", "service": "bank", "targets": ["pin"]})
    naive = "; ".join(f"read {wish['service']} {', '.join(wish['targets'])}" for wish in evil.wants)
    assert "bank" not in naive[: 80 * 24]
    [wants] = [fact.text for fact in facts(evil, Looked()) if fact.name == "wants"]
    assert wants == "read notes: 20 names; read bank: 1 names, see «in full»"
    assert facts(evil, Looked())[-1].text == naive
    assert choices(evil, Looked()) == [Choice.SERVICE, Choice.GOOD, Choice.NEVER, Choice.NOT_NOW]
    assert "too much to be looked over" in why_not(Choice.ONCE, evil, Looked())


@pytest.mark.parametrize(
    "more", [{"path": "/home/me/" + "y" * 700}, {"wants": [{"service": f"{n}{'s' * 250}"} for n in range(20)]}]
)
def test_nor_behind_long_names_of_programs_or_services(more: dict[str, Any]) -> None:
    wants = [{"action": "read", **want} for want in more.pop("wants", [{}])]
    evil = asked(*wants, {"action": "read", "service": "bank"}, **more)
    assert choices(evil, Looked()) == [Choice.NEVER, Choice.NOT_NOW]
    assert choices(evil, Looked(grants=("read bank",))) == [Choice.NOT_NOW]


# --- the screen ---------------------------------------------------------------------------------

PILOT = """
import asyncio, os, sys
from keychain_auth.cli.commands.approving.screen import Watch
from keychain_auth.daemon.places import find_places
app = Watch(find_places())
async def until(pilot, condition, what):
    for _ in range(400):
        if condition():
            return
        await pilot.pause(0.05)
    print(f"not in time: {what}; {app._done}; {text('#state')}; {app._chosen()}", file=sys.stderr, flush=True)
    os._exit(1)  # out of the middle of the screen, whose end would hide why
def text(name):
    return str(app.query_one(name).render())
async def press(pilot, key, count=1):
    await pilot.pause(0.5)  # as long as a person needs to look
    before = len(app._done)
    await pilot.press(key)
    await until(pilot, lambda: len(app._done) > before, f"an answer to {key}")
async def main():
    async with app.run_test(size=(120, 45)) as pilot:
BODY
asyncio.run(main())
"""
WAIT_FOR_ONE = "await until(pilot, lambda: app._shown and 'waits: ' in text('#facts'), 'one waits, and is shown')\n"


def pilot(world: World, body: str) -> Process:
    code = PILOT.replace("BODY", textwrap.indent(body, " " * 8))
    return world.spawn([world.python, "-c", code], env={"KEYCHAIN_AUTH_SOCKET": world.socket})


def done(process: Process) -> str:
    assert process.wait(60) == 0, process.err.text()[-2000:]
    return process.out.text()


@pytest.mark.parametrize(
    ("key", "reads", "writes", "search"),
    [("s", ["aws"], [], False), ("g", ["aws"], ["aws"], True), ("n", [], [], False)],
    ids=["this service", "for good", "never"],
)
def test_a_key_answers_the_program_that_waits(
    running: World, look: Onlooker, key: str, reads: list[str], writes: list[str], search: bool
) -> None:
    running.cli("set", "aws", "key", input="hunter2")
    talker = running.asking(read("key", wait=600))
    program = running.path("bin/talker")
    look.until()
    shown = done(pilot(running, f"{WAIT_FOR_ONE}print(text('#facts'))\nawait press(pilot, '{key}')\nprint(app._done)"))
    assert f"verified program: {program}" in shown
    assert "asked    wants: read aws key" in shown
    assert "claimed  started by: " in shown
    answer = talker.answer()
    assert answer["status"] == ("success" if reads else "denied")
    entry = entry_of(running, program)
    got = (entry["allowed_read_services"], entry["allowed_write_services"], entry["can_search"])
    assert got == (reads, writes, search)
    assert running.pending() == []
    if not reads:
        assert talker.ask(read("key", wait=600)) == denied("service_not_allowed")  # and it asks nobody any more


def test_once_is_once_and_only_for_what_was_asked(running: World, look: Onlooker) -> None:
    running.cli("set", "aws", "key", input="hunter2")
    talker = running.asking(read("key", wait=600))
    look.until()
    done(pilot(running, f"{WAIT_FOR_ONE}await press(pilot, 'o')"))
    assert talker.answer()["results"][0]["value"] == "hunter2"
    assert talker.ask(read("key"))["status"] == "denied"


def test_ten_minutes_are_as_often_as_it_likes(running: World, look: Onlooker) -> None:
    talker = running.asking(write({"key": "v"}, wait=600))
    look.until()
    done(pilot(running, f"{WAIT_FOR_ONE}await press(pilot, 't')"))
    assert talker.answer()["status"] == "success"
    assert talker.ask(write({"key": "w"}))["status"] == "success"
    assert talker.ask(write({"other": "w"}))["status"] == "denied"
    [grant] = entry_of(running, running.path("bin/talker"))["temporary_grants"]
    assert grant["expires_at"] > grant["granted_at"]


def test_not_now_and_a_list_of_several(running: World, look: Onlooker) -> None:
    """The second one is chosen, and only the second one is answered."""
    first = running.asking(read("a", wait=600), running.build_client("first", "one"))
    look.until(1)
    second = running.asking(read("a", wait=600), running.build_client("second", "two"))
    look.until(2)
    body = (
        "await until(pilot, lambda: app._shown and len(app.query('ListItem')) == 2, 'two wait, and are shown')\n"
        "await pilot.press('down')\nawait press(pilot, 'd')\n"
        "await until(pilot, lambda: len(app.query('ListItem')) == 1 and not app._filling, 'one is left')\n"
        "await pilot.pause()\n"
        "print(app._chosen(), text('#facts'))"
    )
    shown = done(pilot(running, body))
    assert second.answer() == denied(PENDING)
    assert first.answers() == []
    assert shown.startswith("None")  # the key under the finger was not meant for the one that is left


def test_a_key_that_comes_too_soon_is_not_taken(running: World, look: Onlooker) -> None:
    talker = running.asking(read("a", wait=600))
    look.until()
    body = f"{WAIT_FOR_ONE}await pilot.press('g')\nawait pilot.pause(0.3)\nprint(app._done, app._busy)"
    assert done(pilot(running, body)) == "[] False"
    assert talker.answers() == []


def test_what_is_asked_for_beside_it_is_not_taken_along(running: World, look: Onlooker) -> None:
    """Whoever can start the same program adds a wish in the moment in which the person presses the key."""
    program = running.build_client()
    talker = running.asking(read("a", wait=600), program)
    look.until()
    body = f"""
{WAIT_FOR_ONE}await pilot.pause(0.5)
view, clear = app.query_one("#list"), app.query_one("#list").clear
async def pressed_meanwhile():
    app.action_choose("SERVICE")
    await clear()
view.clear = pressed_meanwhile
os.write(1, b"shown\\n")
await until(pilot, lambda: "read ca root" in text("#facts") and "changed: what" in text("#facts"), "the wish is shown")
await pilot.press("g")
await pilot.pause(0.5)
await pilot.press("g")
await pilot.pause(0.3)
print(app._done, app._busy)
"""
    person = pilot(running, body)
    person.out.find(lambda line: line == b"shown")
    evil = running.asking(read("root", service="ca", wait=600), program)
    assert done(person).endswith("[] False")
    assert (talker.answers(), evil.answers()) == ([], [])
    assert running.read_policy()["registered_binaries"] == []


def test_names_are_text_and_no_markup(running: World, look: Onlooker) -> None:
    evil = running.build_client("[red]e\x1b[2Jvil\u202e", "evil")
    running.asking(read("[bold]a", service="[@click=app.quit]x", wait=600), evil)
    look.until()
    body = f"{WAIT_FOR_ONE}await pilot.pause(0.2)\nprint(text('#facts'))\nprint(text('ListItem Label'))"
    shown = done(pilot(running, body))
    assert "[red]e\\x1b[2Jvil\\u202e" in shown
    assert "read '[@click=app.quit]x' '[bold]a'" in shown
    assert "\x1b" not in shown


def test_with_a_passphrase_it_is_asked_for_on_the_screen_each_time(world: World) -> None:
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    world.start()
    protect(world, key_file=True)
    look = Onlooker(world)
    talker = world.asking(read("a", wait=600))
    look.until()
    body = f"""
{WAIT_FOR_ONE}await pilot.pause(0.5)
for words in ("wrong", "{WORDS}"):
    before = len(app._done)
    await pilot.press("s")
    await until(pilot, lambda: len(app.screen_stack) == 2, "the passphrase is asked for")
    await pilot.press(*("space" if char == " " else char for char in words), "enter")
    await until(pilot, lambda: len(app._done) > before, "an answer")
    print(app._done[-1])
"""
    wrong, right = done(pilot(world, body)).splitlines()
    assert "NOT done: " in wrong
    assert "this service" in right
    assert talker.answer()["status"] == "success"


def test_the_screen_says_when_no_daemon_runs(world: World) -> None:
    body = "await until(pilot, lambda: 'not running' in text('#state'), 'it is said')\nprint(text('#state'))"
    assert "keychain-auth start" in done(pilot(world, body))


def test_watch_without_a_terminal_or_textual_says_what_to_do(running: World) -> None:
    refused = running.cli("watch")
    assert refused.returncode == 2
    assert "approve --interactive" in refused.stderr
    assert running.cli_json("watch") == []
    code = "import sys; sys.modules['textual'] = None; from keychain_auth.cli.app import run; sys.exit(run(['watch']))"
    terminal = Terminal(running, "-c", code, shell=running.python)
    try:
        terminal.expect("extra tui")
        assert terminal.wait() == 1
    finally:
        terminal.close()
