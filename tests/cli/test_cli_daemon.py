"""start, status, audit: the daemon as its command line shows it."""

from __future__ import annotations

import json
import os

import pytest

from daemon.requests import read
from support.lines import until
from support.world import World


def test_a_second_start_names_the_first(world: World) -> None:
    first = world.start()
    done = world.cli("start", "--socket", world.socket)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"(pid {first.pid})" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".config/keychain-auth/config.json", "{"),
        (".config/keychain-auth/daemon.toml", "limits = 1"),
        (".local/share/keychain-auth/vault.db", "not a vault"),
        (".local/share/keychain-auth/vault.key", "not a key"),
    ],
)
def test_a_start_that_fails_says_why_and_what_to_do(world: World, name: str, content: str) -> None:
    path = world.write(name, content)
    done = world.cli("start", "-s", world.socket)
    assert (done.returncode, done.stdout) == (1, "")
    message, hint = done.stderr.splitlines()
    assert path.removesuffix(".key") in message
    assert hint.startswith("Next: ")
    with open(path, encoding="utf-8") as file:
        assert file.read() == content


def test_the_log_can_be_json(world: World) -> None:
    daemon = world.start("--log-json")
    daemon.stop()
    lines = [json.loads(line) for line in daemon.log.splitlines()]
    assert [line["event"] for line in lines] == ["listening", "stopping", "stopped"]


# --- status -----------------------------------------------------------------------------------


def test_status(running: World) -> None:
    answer = running.cli_json("status")
    assert (answer["socket"], answer["policy"]["state"], answer["policy"]["problem"]) == (
        running.socket,
        "in force",
        "",
    )
    text = running.cli("status").stdout
    assert f"running, pid {answer['pid']}" in text
    assert "NOT OBEYED" not in text


def test_status_shouts_about_a_policy_that_is_not_obeyed(running: World) -> None:
    running.granted("talker", "aws")
    running.talker(running.path("bin/talker")).ask(read("a"))
    running.write(".config/keychain-auth/config.json", '{\n"registered_binaries": 1}')
    until(lambda: running.cli_json("status")["policy"]["state"] == "last good", "the daemon sees the change")
    first, second, *_ = running.cli("status").stdout.splitlines()
    assert first.startswith(f"{running.policy_path} IS NOT OBEYED: line 2, $.registered_binaries")
    assert "last good policy" in second
    assert "line 2" in running.cli_json("status")["policy"]["problem"]


def test_the_socket_is_found_as_everywhere(world: World) -> None:
    path = world.path("run/other.sock")
    world.start(socket=path)
    assert world.cli("status").returncode == 4
    assert world.cli_json("status", "-s", path)["socket"] == path
    assert world.cli_json("status", env={"KEYCHAIN_AUTH_SOCKET": path})["socket"] == path
    assert world.cli("status", "-s", world.socket, env={"KEYCHAIN_AUTH_SOCKET": path}).returncode == 4


# --- audit ------------------------------------------------------------------------------------


def test_tail_shows_the_last_lines(running: World) -> None:
    running.granted("talker", "aws")
    talker = running.talker(running.path("bin/talker"))
    for number in range(5):
        talker.ask(read(f"t{number}"))
    found = running.cli_json("audit", "tail", "-n", "2")
    assert [line["targets"] for line in found] == [["t3"], ["t4"]]
    header, *rows = running.cli("audit", "tail", "-n", "3").stdout.splitlines()
    assert header.split()[:3] == ["TIMESTAMP", "ACTION", "RESULT"]
    assert [row.split()[-1] for row in rows] == ["t2", "t3", "t4"]
    assert len(running.cli("audit", "tail").stdout.splitlines()) <= 21


def test_tail_of_nothing(world: World) -> None:
    for more in ((), ("--json",)):
        done = world.cli("audit", "tail", *more)
        assert (done.returncode, done.stdout) == (6, "")
        assert "there is no audit log" in done.stderr


def test_tail_shows_what_is_no_line_of_ours(running: World) -> None:
    path = os.path.join(running.data_dir, "audit.log")
    with open(path, "ab") as file:
        file.write(b'\x1b[2J not json\n{"targets": 5, "action": ["x"]}\n')
    shown = running.cli("audit", "tail").stdout
    assert "\x1b" not in shown
    assert "not json" in shown
    running._processes[0].kill()  # it noticed, and says so at its end


def test_verify_with_and_without_a_daemon(world: World) -> None:
    daemon = world.start()
    world.cli("set", "aws", "key", input="v")
    answer = world.cli_json("audit", "verify")
    assert (answer["ok"], answer["asked_daemon"], answer["first_problem"]) == (True, True, None)
    assert answer["lines"] == len(world.audit())
    assert "The audit log fits" in world.cli("audit", "verify").stdout
    daemon.stop()
    answer = world.cli_json("audit", "verify")
    assert (answer["ok"], answer["asked_daemon"], answer["lines"]) == (True, False, len(world.audit()))
    world.start()
    assert world.cli("audit", "verify").returncode == 0


@pytest.mark.parametrize("alive", [True, False])
def test_verify_names_the_first_line_that_does_not_fit(world: World, alive: bool) -> None:
    daemon = world.start()
    for number in range(4):
        world.cli("set", "aws", f"key{number}", input="v")
    if not alive:
        daemon.stop()
    path = os.path.join(world.data_dir, "audit.log")
    with open(path, "rb+") as file:
        lines = file.read().split(b"\n")
        at = next(number for number, line in enumerate(lines) if b"key2" in line)
        lines[at] = lines[at].replace(b"key2", b"key9")
        file.seek(0)
        file.write(b"\n".join(lines))
    done = world.cli("audit", "verify")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{path}, line {at + 1}: this line was altered" in done.stderr
    done = world.cli("audit", "verify", "--json")
    problem = json.loads(done.stdout)["first_problem"]
    assert (done.returncode, problem["file"], problem["line"]) == (1, path, at + 1)


def test_a_running_daemon_knows_of_lines_that_were_cut_off(world: World) -> None:
    # The attack: cut the last lines off, and put the head of that time back. The files alone fit.
    daemon = world.start()
    world.cli("set", "aws", "one", input="v")
    daemon.stop()
    daemon = world.start()
    kept = {}
    for name in ("audit.log", "audit.head"):
        with open(os.path.join(world.data_dir, name), "rb") as file:
            kept[name] = file.read()
    world.cli("set", "aws", "two", input="v")

    def attack() -> None:
        for name in os.listdir(world.data_dir):
            if name.startswith("audit.log.") and name[-1].isdigit():  # what the daemon put aside when it noticed
                os.unlink(os.path.join(world.data_dir, name))
        for name, content in kept.items():
            with open(os.path.join(world.data_dir, name), "rb+") as file:
                file.write(content)
                file.truncate()

    attack()
    done = world.cli("audit", "verify")
    assert done.returncode == 1
    # Within a second the daemon also looks by itself, and puts that on record.
    assert "the daemon knows of" in done.stderr or "somebody cut" in done.stderr
    daemon.kill()
    attack()
    assert world.cli("audit", "verify").returncode == 0  # what the attack does to who looks at the files alone


def test_verify_makes_no_vault(world: World) -> None:
    done = world.cli("audit", "verify")
    assert (done.returncode, done.stdout) == (6, "")
    assert not os.path.exists(os.path.join(world.data_dir, "vault.db"))
