"""What commands propose to a person: it must be there, fit, and lead on in one step."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest

from cli.lab import script
from cli.test_cli_pending import queue, waiting
from daemon.requests import SUCCESS, denied, write
from support import programs
from support.world import World, sha256_of


def entry_of(world: World, path: str) -> dict[str, Any]:
    return next(entry for entry in world.cli_json("list")["entries"] if entry["path"] == path)


def waiting_script(world: World, path: str) -> dict[str, Any]:
    interpreter = world.installation.interpreter
    return waiting(path, interpreter={"path": interpreter, "hash": sha256_of(interpreter)})


# --- approve ----------------------------------------------------------------------------------


def test_approve_of_a_script_says_how_it_is_started(world: World) -> None:
    path = script(world)
    queue(world, waiting_script(world, path))
    said = world.cli("approve", world.cli_json("list-pending")[0]["id"]).stdout
    assert f"Start it with: keychain-auth launch {path}\n" in said
    assert "--allow-declared" in said


def test_what_may_be_started_plainly_is_not_sent_to_launch(world: World) -> None:
    path = script(world)
    queue(world, waiting_script(world, path))
    for words in (("approve", world.cli_json("list-pending")[0]["id"]), ("register", "--script", path)):
        said = world.cli(*words, "--allow-declared").stdout
        assert "Start it with" not in said
        assert "forges its command line" in said


def test_what_is_registered_meanwhile_waits_no_more(world: World) -> None:
    path, other = script(world), world.build_client()
    queue(world, waiting_script(world, path), waiting(other))
    world.cli_json("register", "--script", path)
    assert [entry["path"] for entry in world.cli_json("list-pending")] == [other]
    world.cli_json("deny", sha256_of(other))
    assert world.pending() == []


def test_what_is_registered_otherwise_still_waits(world: World) -> None:
    path = script(world)
    queue(world, waiting_script(world, path), waiting(path, sha256_of("/bin/true").removeprefix("sha256:")))
    world.cli_json("register", "--script", path, "--interpreter", "/bin/sh")
    assert len(world.cli_json("list-pending")) == 2


def test_a_relay_is_not_called_a_script(world: World) -> None:
    relay = world.build_client("socat")
    queue(world, waiting(relay))
    done = world.cli("approve", sha256_of(relay))
    assert done.returncode == 2
    assert "SCRIPT" not in done.stderr
    assert "a relay or a wrapper is never approved" in done.stderr


# --- register a second time -------------------------------------------------------------------


def test_a_script_keeps_its_environment_and_folders(running: World) -> None:
    environment, folder = running.path("venv"), running.path("lib")
    make = [running.installation.interpreter, "-m", "venv", "--without-pip", environment]
    subprocess.run(make, check=True, capture_output=True, **running.user.popen())
    running.write("lib/helper.py", "WORD = 'found'\n")
    path = script(running, text="import helper, sys\nprint(helper.WORD, sys.prefix)\n")
    running.cli_json("register", "--script", path, "--interpreter", f"{environment}/bin/python", "--tree", folder)
    assert running.cli("launch", path).stdout == f"found {environment}\n"
    running.cli_json("register", "--script", path, "--strict")
    done = running.cli("launch", path)
    assert (done.stdout, done.stderr) == (f"found {environment}\n", "")
    more = os.path.dirname(running.write("more/other.py", ""))
    running.cli_json("register", "--script", path, "--tree", more)
    assert {folder, more} <= set(entry_of(running, path)["trees"])


def test_another_interpreter_is_taken_if_it_is_named(world: World) -> None:
    path, folder = script(world), os.path.dirname(world.write("lib/helper.py", ""))
    world.cli_json("register", "--script", path, "--tree", folder)
    answer = world.cli_json("register", "--script", path, "--interpreter", "/bin/sh")
    assert answer["interpreter"] == os.path.realpath("/bin/sh")
    assert entry_of(world, path)["interpreter"] == answer["interpreter"]


# --- Next -------------------------------------------------------------------------------------


def test_an_unregistered_script_is_one_step_away(world: World) -> None:
    path = script(world)
    done = world.cli("authorize", path, "aws")
    assert done.stderr.splitlines()[1] == f"Next: keychain-auth register --script {path}"


def test_a_service_that_asks_for_more_says_so(world: World) -> None:
    program = world.build_client()
    world.cli("register", program)
    world.cli("authorize", program, "prod")
    world.cli("require", "prod", "system")
    done = world.cli("check", program, "prod")
    assert done.returncode == 3
    assert "asks for grade system or surer (keychain-auth require), found grade user" in done.stdout
    mend = "keychain-auth require prod user"
    assert f"or: {mend}\n" in done.stdout
    world.cli(*mend.split()[1:])
    assert world.cli("check", program, "prod").returncode == 0


def test_a_grade_that_is_not_reached_has_a_way_out(world: World) -> None:
    program = world.build_client()
    world.cli("register", program, "--minimum-grade", "system")
    said = world.cli("check", program).stdout
    mend = f"keychain-auth register {program} --minimum-grade user"
    assert f"or: {mend}\n" in said
    assert "as it is now" not in said
    world.cli(*mend.split()[1:])
    assert world.cli("check", program).returncode == 0


def test_a_file_that_is_gone_can_be_forgotten(world: World) -> None:
    program = world.build_client()
    world.cli("register", program)
    os.unlink(program)
    said = world.cli("check", program).stdout
    assert f"Next: keychain-auth unregister {program}\n" in said
    assert "as it is now" not in said


def test_a_changed_hash_is_told_in_the_order_of_time(world: World) -> None:
    program = world.build_client(variant="one")
    before = sha256_of(program).removeprefix("sha256:")
    world.cli("register", program)
    world.build_client(variant="two")
    said = world.cli("check", program).stdout
    assert f"not as it is now: entry {program}: hash: registered {before}, now " in said


@pytest.mark.parametrize("name", ["app.py", "app"])
def test_no_empty_next(world: World, name: str) -> None:
    path = script(world, name)
    world.cli("register", "--script", path, "--minimum-grade", "system")
    world.cli("require", "prod", "signed")
    world.cli("authorize", path, "prod")
    assert all(line.strip() != "Next:" for line in world.cli("check", path, "prod").stdout.splitlines())


# --- what was set is seen, and taken back ------------------------------------------------------


def test_what_an_entry_says_is_seen_and_taken_back(world: World) -> None:
    program, library = world.build_client(), world.write("lib/x.so", b"\x7fELF")
    flags = ("strict", "executable-memory", "foreign-mounts")
    world.cli_json("register", program, "--library", library, "--grace", "60", *(f"--{flag}" for flag in flags))
    seen = ("strict mode", f"may load {library}", "executable memory", "foreign mounts", "60 s (grace)")
    for words in (("list",), ("check", program)):
        said = world.cli(*words).stdout
        assert [words for words in seen if words not in said] == []
    world.cli_json("register", program)  # what is not named stays
    assert entry_of(world, program)["strict"] is True
    os.unlink(library)  # it need not exist any more
    world.cli_json("register", program, "--no-library", library, "--grace", "0", *(f"--no-{flag}" for flag in flags))
    for words in (("list",), ("check", program)):
        said = world.cli(*words).stdout
        assert [words for words in seen if words in said] == []
    assert world.cli("register", program, "--no-library", library).returncode == 6  # it is gone already


def test_a_publisher_is_asked_for_seen_and_taken_back(running: World) -> None:
    """This system vouches for nobody's code: whoever asks for a publisher here is refused, and told so."""
    program = running.build_client()
    running.cli_json("register", program, "--publisher", "ABCDE12345")
    running.cli_json("authorize", program, "aws")
    assert "must be signed by ABCDE12345 (publisher)" in running.cli("check", program).stdout
    assert running.talker(program).ask(write({"a": "1"})) == denied("identity_not_verified")
    both = running.cli("register", program, "--publisher", "ABCDE12345", "--no-publisher")
    assert both.returncode == 2
    assert "contradict each other" in both.stderr
    assert running.cli("register", "--script", script(running), "--publisher", "ABCDE12345").returncode == 2
    running.cli_json("register", program, "--no-publisher")
    assert entry_of(running, program).get("publisher") is None
    assert running.talker(program).ask(write({"a": "1"})) == SUCCESS


def test_register_warns_of_a_grade_that_the_file_does_not_reach(world: World) -> None:
    world.write_settings(f'filesystems = ["{world.filesystem}"]')
    program = world.build_client()
    (warning,) = world.cli_json("register", program, "--minimum-grade", "system")["warnings"]
    assert "is of grade user, and at least system is asked for" in warning
    assert f"keychain-auth register {program} --minimum-grade user" in warning
    assert world.cli_json("register", program, "--minimum-grade", "user")["warnings"] == []


def test_check_can_ask_for_less_than_full_access(world: World) -> None:
    program = world.build_client()
    world.cli("register", program)
    world.cli("authorize", program, "aws", "--read", "--search")
    full = world.cli("check", program, "aws")
    assert (full.returncode, "no full access" in full.stdout) == (3, True)
    less = world.cli("check", program, "aws", "--read", "--search")
    assert (less.returncode, "write" in less.stdout) == (0, False)
    assert world.cli("check", program, "aws", "--write").returncode == 3
    assert world.cli("check", program, "--read").returncode == 2


def test_check_warns_of_a_filesystem_that_is_not_trusted(world: World) -> None:
    world.write_settings(f'filesystems = ["{world.filesystem}"]')
    copy = f"/dev/shm/{os.path.basename(world.home)}-check"
    try:
        programs.install(world.build_client(), copy, world.user)
        world.cli("register", copy)
        assert 'filesystems = ["tmpfs"]' in world.cli("check", copy).stderr
    finally:
        os.unlink(copy)


def test_upgrade_all_names_the_scripts_that_it_did_not_look_into(world: World) -> None:
    path, plain = script(world), script(world, "plain.sh", "#!/bin/sh\n")
    folder = os.path.dirname(world.write("lib/helper.py", ""))
    world.cli_json("register", "--script", path, "--tree", folder)
    world.cli_json("register", "--script", plain)
    said = world.cli("upgrade", "--all").stdout
    assert f"  keychain-auth upgrade {path}\n" in said
    assert plain not in said


def test_an_es_module_is_said_to_be_none_for_launch(world: World) -> None:
    path, node = world.write("bin/app.mjs", "import 'fs'\n"), world.write("bin/node", b"\x7fELF", mode=0o755)
    answer = world.cli_json("register", "--script", path, "--interpreter", node)
    assert any("ES module" in warning for warning in answer["warnings"])
    answer = world.cli_json("register", "--script", path, "--interpreter", node, "--allow-declared")
    assert not any("ES module" in warning for warning in answer["warnings"])


def test_the_client_in_node_of_the_documents_is_one(running: World) -> None:
    node = shutil.which("node", path="/usr/bin:/usr/local/bin")
    if node is None:
        pytest.skip("there is no node here")
    with open(os.path.join(os.path.dirname(__file__), "../../docs/operations.md"), encoding="utf-8") as file:
        text = file.read().partition("```js\n")[2].partition("```")[0]
    path = script(running, "app.js", text)
    running.cli_json("register", "--script", path, "--interpreter", node)
    running.cli_json("authorize", path, "AgentSecrets", "--read")
    running.cli("set", "AgentSecrets", "proj_123:staging:API_KEY", input="v")
    done = running.cli("launch", path)
    assert (done.stdout, done.stderr) == ("success\n", "")
