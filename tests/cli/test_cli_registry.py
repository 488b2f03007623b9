"""register, upgrade, unregister, list: what gets into config.json, and what never does."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

import keychain_auth
from cli.lab import script
from daemon.requests import SUCCESS, write
from support import programs
from support.world import World, sha256_of


def entries(world: World) -> dict[str, dict[str, object]]:
    return {entry["path"]: entry for entry in world.read_policy()["registered_binaries"]}


# --- programs ---------------------------------------------------------------------------------


def test_register_adds_an_entry_with_no_permission(world: World) -> None:
    world.write_settings("")
    program = world.build_client()
    answer = world.cli_json("register", program)
    assert answer == {
        "outcome": "registered", "path": program, "hash": sha256_of(program), "interpreter": None,
        "minimum_grade": "user", "warnings": [],
    }  # fmt: skip
    entry = entries(world)[program]
    assert entry.pop("registered_at")
    assert entry == {
        "path": program, "hash": sha256_of(program), "allowed_read_services": [], "allowed_write_services": [],
        "can_search": False,
    }  # fmt: skip
    assert os.stat(world.policy_path).st_mode & 0o777 == 0o600


def test_a_registered_and_authorized_program_is_served(running: World) -> None:
    program = running.build_client()
    assert running.cli("register", program).returncode == 0
    assert running.cli("authorize", program, "aws").returncode == 0
    assert running.talker(program).ask(write({"a": "1"})) == SUCCESS


def test_register_resolves_links_and_relative_paths(world: World) -> None:
    program = world.build_client()
    os.symlink(program, world.path("bin/link"))
    assert world.cli_json("register", world.path("bin/link"))["path"] == program
    assert world.cli_json("register", world.path("bin/../bin/talker"))["outcome"] == "unchanged"
    assert list(entries(world)) == [program]


def test_register_of_a_known_path_updates_the_hash_and_keeps_the_grants(world: World) -> None:
    program = world.build_client(variant="one")
    world.cli("register", program)
    world.cli("authorize", program, "aws", "--read")
    world.build_client(variant="two")
    assert world.cli_json("register", program)["outcome"] == "updated"
    entry = entries(world)[program]
    assert (entry["hash"], entry["allowed_read_services"]) == (sha256_of(program), ["aws"])


@pytest.mark.parametrize("name", ["python3", "sh", "bash", "perl", "env"])
def test_interpreters_are_refused(world: World, name: str) -> None:
    path = shutil.which(name, path="/usr/bin:/bin")
    if path is None:
        pytest.skip(f"no {name} here")
    done = world.cli("register", path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1] == "Next: keychain-auth register --script SCRIPT"
    assert not os.path.exists(world.policy_path)


def test_an_interpreter_behind_an_innocent_link_is_refused(world: World) -> None:
    os.symlink(world.installation.interpreter, world.path("bin/tool"))
    assert world.cli("register", world.path("bin/tool")).returncode == 2
    # And the other way round: the link is called as the interpreter that it stands for (awk is mawk).
    program = world.build_client()
    os.symlink(program, world.path("bin/awk"))
    assert world.cli("register", world.path("bin/awk")).returncode == 2


@pytest.mark.parametrize("name", ["app", "app.py", "app.sh"])
def test_a_script_is_refused_without_the_option(world: World, name: str) -> None:
    path = script(world, name)
    done = world.cli("register", path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1] == f"Next: keychain-auth register --script {path}"


def test_what_is_no_file_is_refused(world: World) -> None:
    os.mkfifo(world.path("fifo"))
    world.user.own(world.path("fifo"))
    for path, code in ((world.path("fifo"), 2), (world.home, 2), ("/dev/null", 2), (world.path("missing"), 6)):
        done = world.cli("register", path)
        assert done.returncode == code, done.stderr
        assert path in done.stderr
    unreadable = world.write("bin/secret", b"\x7fELF", mode=0o000)
    done = world.cli("register", unreadable)
    assert (done.returncode, f"Next: ls -l {unreadable}" in done.stderr) == (1, True)
    assert not os.path.exists(world.policy_path)


def test_a_name_that_json_cannot_hold_is_refused(world: World) -> None:
    odd = os.fsencode(world.path("bin")) + b"/odd\xff"
    os.rename(world.build_client(), odd)
    done = world.cli("register", os.fsdecode(odd))
    assert done.returncode == 2
    assert "\\udcff is not UTF-8" in done.stderr


def test_odd_but_legal_names_work(world: World) -> None:
    for name in ("with space", "it's", "tool (deleted)", "-dash", "ünï\nline"):
        path = world.path("bin", name)
        shutil.copy(programs.compiled(), path)
        assert world.cli_json("register", path)["path"] == path
        assert world.cli_json("authorize", path, "aws")["path"] == path
    assert len(world.cli_json("list")["entries"]) == 5


def test_what_the_kernel_never_runs_gets_a_warning(world: World) -> None:
    world.write_settings("")
    done = world.cli("register", world.write("bin/data", b"no program at all"))
    assert done.returncode == 0
    assert "warning:" in done.stderr
    assert "ELF" in done.stderr


def test_a_filesystem_that_the_daemon_does_not_trust_gets_a_warning(world: World) -> None:
    world.write_settings(f'filesystems = ["{world.filesystem}"]')
    program = world.build_client()
    assert world.cli_json("register", program)["warnings"] == []
    copy = f"/dev/shm/{os.path.basename(world.home)}"
    try:
        programs.install(program, copy, world.user)
        (warning,) = world.cli_json("register", copy)["warnings"]
    finally:
        os.unlink(copy)
    assert 'filesystems = ["tmpfs"]' in warning


# --- upgrade, unregister, list ----------------------------------------------------------------


def test_upgrade_is_for_known_paths_only(world: World) -> None:
    program = world.build_client(variant="one")
    done = world.cli("upgrade", program)
    assert done.returncode == 6
    assert f"Next: keychain-auth register {program}" in done.stderr
    world.cli("register", program)
    world.cli("authorize", program, "aws")
    assert world.cli_json("upgrade", program)["outcome"] == "unchanged"
    world.build_client(variant="two")
    assert world.cli_json("upgrade", program) == {
        "outcome": "updated", "path": program, "hash": sha256_of(program), "interpreter": None, "minimum_grade": "user",
        "warnings": [],
    }  # fmt: skip
    assert entries(world)[program]["allowed_write_services"] == ["aws"]
    os.unlink(program)
    assert world.cli("upgrade", program).returncode == 6


def test_upgrade_of_a_script_hashes_its_interpreter_too(world: World) -> None:
    path = script(world)
    world.cli("register", "--script", path)
    policy = world.read_policy()
    policy["registered_binaries"][0]["interpreter"]["hash"] = "0" * 64
    world.write_policy(policy)
    assert world.cli("check", path).returncode == 3
    assert world.cli_json("upgrade", path)["outcome"] == "updated"
    assert entries(world)[path]["interpreter"] == {
        "path": world.installation.interpreter, "hash": sha256_of(world.installation.interpreter)
    }  # fmt: skip
    assert world.cli("check", path).returncode == 0


def test_upgrade_of_several_programs_is_one_change_or_none(world: World) -> None:
    one, two = world.build_client("one", "1"), world.build_client("two", "1")
    for program in (one, two):
        world.cli("register", program)
    before = entries(world)
    world.build_client("one", "2")
    world.build_client("two", "2")
    assert world.cli("upgrade", one, two, world.path("bin/none")).returncode == 6
    assert entries(world) == before
    answer = world.cli_json("upgrade", one, two)
    assert [(each["path"], each["outcome"]) for each in answer["entries"]] == [(one, "updated"), (two, "updated")]
    assert [entries(world)[program]["hash"] for program in (one, two)] == [sha256_of(one), sha256_of(two)]
    assert world.cli("upgrade").returncode == world.cli("upgrade", one, "--all").returncode == 2


def test_upgrade_of_the_scripts_that_import_from_where_this_command_is(world: World) -> None:
    package = os.path.dirname(os.path.abspath(keychain_auth.__file__))
    lib = world.path("lib")
    shutil.copytree(package, f"{lib}/keychain_auth", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["/bin/chown", "-R", f"{world.user.uid}:{world.user.gid}", lib], check=True)
    rest = world.env.get("PYTHONPATH", "")
    world.env["PYTHONPATH"] = lib + (f":{rest}" if rest else "")
    ours, other = [script(world, "one.py"), script(world, "two.py")], script(world, "other.py")
    world.cli("register", "--script", other)
    assert world.cli("upgrade", "--importers").stdout == "No registered script imports from here.\n"
    for path in ours:
        world.cli("register", "--script", path, "--tree", lib)
    world.write("lib/keychain_auth/new.py", "")
    assert [world.cli("check", path).returncode for path in (*ours, other)] == [3, 3, 0]
    answer = world.cli_json("upgrade", "--importers")
    assert [(each["path"], each["outcome"]) for each in answer["entries"]] == [(path, "updated") for path in ours]
    assert [world.cli("check", path).returncode for path in ours] == [0, 0]
    assert world.cli("upgrade", "--importers").stdout == "".join(f"unchanged {path}\n" for path in ours)


def test_unregister_needs_no_file(world: World) -> None:
    program = world.build_client()
    world.cli("register", program)
    os.unlink(program)
    assert world.cli_json("unregister", program) == {"outcome": "unregistered", "path": program}
    assert entries(world) == {}
    assert world.cli("unregister", program).returncode == 6


def test_a_path_counts_as_typed_too(world: World) -> None:
    # Written into config.json by hand, before somebody put a link there.
    program, link = world.build_client(), world.path("bin/link")
    os.symlink(program, link)
    policy = world.read_policy()
    policy["registered_binaries"] = [{"path": link, "hash": sha256_of(program)}]
    world.write_policy(policy)
    assert world.cli_json("authorize", link, "aws")["path"] == link
    assert world.cli_json("unregister", link)["path"] == link


def test_list(world: World) -> None:
    assert world.cli_json("list") == {
        "policy": world.policy_path,
        "not_obeyed": "",
        "entries": [],
        "trusted_signers": [],
    }
    assert "register PATH" in world.cli("list").stdout
    program, path = world.build_client(), script(world)
    world.cli("register", program)
    world.cli("register", "--script", path)
    world.cli("authorize", program, "aws", "--read", "--targets", "prod:")
    first, second = world.cli_json("list")["entries"]
    assert (first["path"], first["allowed_read_services"], first["allowed_targets"]) == (program, ["aws"], ["prod:"])
    assert (second["path"], second["interpreter"]) == (path, world.installation.interpreter)
    header, *rows = world.cli("list").stdout.splitlines()
    assert header.split() == ["PROGRAM", "READ", "WRITE", "SEARCH", "TARGETS", "GRADE", "ASKED", "FOR", "INTERPRETER"]
    assert rows[0].split() == [program, "aws", "-", "no", "prod:", "user", "user", "-"]
    assert (first["grade"], second["grade"]) == ("user", "launched")


# --- config.json ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"protocol_version": "1",\n "registered_binaries": [\n', "line 3, $: not JSON"),
        ('{"registered_binaries": [\n {"path": "/a",\n  "hash": "x"}]}', "line 3, $.registered_binaries[0].hash"),
        ('{"registered_binaries": [\n {"path": "/a", "hash": "' + "0" * 64 + '",\n "typo": 1}]}', "typo"),
        ("", "line 1, $: the file is empty"),
    ],
)
def test_a_malformed_policy_is_named_and_not_touched(world: World, content: str, why: str) -> None:
    path = world.write(".config/keychain-auth/config.json", content)
    program = world.build_client()
    commands = (
        ("register", program), ("upgrade", program), ("unregister", program), ("authorize", program, "aws"),
        ("revoke", program), ("list",), ("check", program),
    )  # fmt: skip
    for words in commands:
        done = world.cli(*words)
        assert (done.returncode, done.stdout) == (1, "")
        message, hint = done.stderr.splitlines()
        assert message.startswith(f"{path}: ")
        assert why in message
        assert hint == f"Next: edit {path}"
    with open(path, encoding="utf-8") as file:
        assert file.read() == content


def test_a_policy_that_others_can_write_is_refused(world: World) -> None:
    world.write_policy({"registered_binaries": []})
    os.chmod(world.policy_path, 0o666)
    done = world.cli("register", world.build_client())
    assert done.returncode == 1
    assert f"Next: chmod 600 {world.policy_path}" in done.stderr


def test_what_people_wrote_stays_as_they_wrote_it(world: World) -> None:
    program = world.build_client()
    other = {"path": "/opt/x", "hash": hashlib.sha256(b"x").hexdigest().upper(), "can_search": True}
    signer = {"service": "AgentSecrets", "public_key": "1XqYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}
    world.write_policy({"trusted_signers": [signer], "registered_binaries": [other]})
    world.cli("register", program)
    policy = world.read_policy()
    assert list(policy) == ["trusted_signers", "registered_binaries"]
    assert (policy["trusted_signers"], policy["registered_binaries"][0]) == ([signer], other)


def test_commands_at_the_same_time_all_count(world: World) -> None:
    paths = [world.build_client(f"tool{number}") for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda path: world.cli("register", path).returncode, paths))
    assert codes == [0] * 20
    assert set(entries(world)) == set(paths)
    assert [name for name in os.listdir(world.config_dir) if name.startswith(".")] == []
