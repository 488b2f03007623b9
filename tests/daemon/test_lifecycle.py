"""The daemon's beginning and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys

import pytest

from daemon.requests import SUCCESS, read, results, write
from support import users
from support.world import World


def modes(world: World) -> dict[str, int]:
    """Path below the home to mode, for everything of ours."""
    found = {}
    for folder, _, names in os.walk(world.home):
        for path in [folder, *(os.path.join(folder, name) for name in names)]:
            if "keychain-auth" in path:
                found[os.path.relpath(path, world.home)] = stat.S_IMODE(os.stat(path).st_mode)
    return found


def test_files_and_folders_are_private(world: World) -> None:
    world.start()
    world.talker().ask(read("a"))
    found = modes(world)
    assert found["run/keychain-auth/agent.sock"] == 0o600
    assert found["run/keychain-auth/admin.sock"] == 0o600
    folders = ("run/keychain-auth", ".config/keychain-auth", ".local/share/keychain-auth")
    assert {found.pop(folder) for folder in folders} == {0o700}
    assert set(found.values()) == {0o600}
    for name in ("vault.db", "vault.key", "audit.log"):
        assert f".local/share/keychain-auth/{name}" in found
    assert ".config/keychain-auth/pending.json" in found


def test_the_socket_is_found_by_precedence(world: World) -> None:
    chosen, variable = world.path("run/chosen.sock"), world.path("run/variable.sock")
    world.start(socket=None).stop()
    assert not os.path.exists(world.socket)
    world.start(socket=None, env={"KEYCHAIN_AUTH_SOCKET": variable}).stop()
    daemon = world.start(socket=chosen, env={"KEYCHAIN_AUTH_SOCKET": variable})
    assert os.path.exists(chosen)
    assert not os.path.exists(variable)
    daemon.stop()
    daemon = world.start(socket=None, env={"XDG_RUNTIME_DIR": None, "KEYCHAIN_AUTH_SOCKET": None}, ready=False)
    daemon.socket = world.path(".cache/keychain-auth/agent.sock")
    daemon.wait_ready()


def test_a_second_daemon_refuses_and_names_the_first(world: World) -> None:
    first = world.start()
    second = world.start(ready=False)
    assert second.wait() == 1
    assert str(first.pid) in second.log
    assert world.socket in second.log
    talker = world.talker(world.granted("talker", "aws"))
    assert talker.ask(read("a")) == results()


def test_a_second_daemon_on_another_socket_does_not_share_the_vault(world: World) -> None:
    world.start()
    second = world.start(socket=world.path("run/other.sock"), ready=False)
    assert second.wait() == 1
    assert "vault" in second.log
    assert not os.path.exists(world.path("run/other.sock"))


def test_a_stale_socket_is_replaced(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    daemon.kill()
    assert daemon.wait() == -signal.SIGKILL
    assert os.path.exists(world.socket)
    world.start()
    assert world.talker(program).ask(read("a")) == results()


def test_what_is_no_socket_is_not_removed(world: World) -> None:
    path = world.write("run/keychain-auth/agent.sock", "precious")
    daemon = world.start(ready=False)
    assert daemon.wait() == 1
    assert "no socket" in daemon.log
    with open(path) as file:
        assert file.read() == "precious"


def test_only_its_own_socket_is_removed_at_the_end(world: World) -> None:
    daemon = world.start()
    os.unlink(world.socket)
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(world.socket)
        assert daemon.stop() == 0
        assert os.path.exists(world.socket)
        assert not os.path.exists(daemon.admin_socket)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(world: World, number: int) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    assert talker.ask(read("a")) == results()
    assert daemon.stop(number) == 0
    assert talker.eof()
    assert not os.path.exists(world.socket)
    assert [line["action"] for line in world.audit()][-1] == "daemon_stop"


def test_under_nohup_it_outlives_its_terminal(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start(before=("/usr/bin/nohup",))
    daemon.signal(signal.SIGHUP)
    assert world.talker(program).ask(read("a")) == results()
    assert daemon.stop() == 0


def test_what_was_answered_before_the_end_is_there_after_it(world: World) -> None:
    """Writes are pipelined without pause while SIGTERM comes: what the kernel took until then is answered, and each
    success that was sent is durable, in order. The rest was never taken."""
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    talker.send(*(write({f"{number:03}": "x" * 20000}) for number in range(200)))
    assert talker.answer() == SUCCESS
    assert daemon.stop() == 0
    talker.eof()
    successes = [line for line in talker.answers() if json.loads(line) == SUCCESS]
    assert successes == talker.answers()
    assert 1 <= len(successes) < 200
    world.start()
    stored = world.talker(program).ask(read("0", "1", match="prefix"))["results"]
    assert len(stored) == len(successes)


def test_a_folder_that_others_can_write_is_refused(world: World) -> None:
    folder = world.path("shared")
    assert world.spawn(["/bin/mkdir", folder]).wait() == 0
    os.chmod(folder, 0o777)
    daemon = world.start(socket=os.path.join(folder, "agent.sock"), ready=False)
    assert daemon.wait() == 1
    assert "other users can change the socket's folder" in daemon.log


def test_a_policy_folder_that_others_could_write_is_closed_and_told_of_once(world: World) -> None:
    folder = world.path(".config/keychain-auth")
    assert world.spawn(["/bin/mkdir", "-p", folder]).wait() == 0
    os.chmod(folder, 0o777)
    daemon = world.start()
    assert f"others could write into it until now path={folder}" in daemon.log
    assert os.stat(folder).st_mode & 0o777 == 0o700
    daemon.stop()
    assert "others could write" not in world.start().log


def test_a_path_that_no_socket_can_have_is_refused(world: World) -> None:
    daemon = world.start(socket=world.path("x" * 100), ready=False)
    assert daemon.wait() != 0
    assert "107" in daemon.log


CONFIG = ".config/keychain-auth/config.json"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "line 1"),
        ('{\n"registered_binaries": [\n{"path": 7}]}', "line 3"),
        ("{", "not JSON"),
        ("\x00\xff", "config.json"),
    ],
)
def test_a_malformed_policy_stops_the_start(world: World, content: str, told: str) -> None:
    world.write(CONFIG, content)
    daemon = world.start(ready=False)
    assert daemon.wait() == 1
    assert told in daemon.log
    assert "config.json" in daemon.log


def test_a_policy_that_is_a_folder_stops_the_start(world: World) -> None:
    assert world.spawn(["/bin/mkdir", "-p", world.path(CONFIG)]).wait() == 0
    daemon = world.start(ready=False)
    assert daemon.wait() == 1
    assert "is a folder" in daemon.log


@pytest.mark.parametrize(("mode", "told"), [(0o000, "cannot read"), (0o602, "can be written by other users")])
def test_a_policy_with_wrong_modes_stops_the_start(world: World, mode: int, told: str) -> None:
    world.write(CONFIG, "{}", mode=mode)
    daemon = world.start(ready=False)
    assert daemon.wait() == 1
    assert told in daemon.log


def test_a_policy_of_somebody_else_stops_the_start(world: World) -> None:
    other = users.stranger()
    if other is None:
        pytest.skip("only root can give a file to another user")
    path = world.write(CONFIG, "{}", mode=0o644)
    os.chown(path, other.uid, -1)
    daemon = world.start(ready=False)
    assert daemon.wait() == 1
    assert "belongs to another user" in daemon.log


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[limits]\nconnections = 0", "connections"),
        ("[limits]\nidle_seconds = nan", "idle_seconds must be greater than 0, and not nan"),
        ("[audit]\nsummary_seconds = inf", "summary_seconds"),
        ("[limit]\n", "limit"),
        ("hash_limit_bytes = 'x'", "hash_limit_bytes"),
    ],
)
def test_wrong_settings_stop_the_start(world: World, toml: str, told: str) -> None:
    world.write_settings(toml)
    daemon = world.start(ready=False)
    assert daemon.wait() == 1
    assert told in daemon.log
    assert "daemon.toml" in daemon.log


def test_a_damaged_vault_stops_the_start_and_is_not_replaced(world: World) -> None:
    world.start().stop()
    path = os.path.join(world.data_dir, "vault.db")
    os.truncate(path, 0)
    daemon = world.start(ready=False)
    assert daemon.wait() == 1
    assert "vault" in daemon.log
    assert os.path.getsize(path) == 0


def test_the_log_can_be_json_and_escapes_what_clients_chose(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start("--log-json")
    talker = world.talker(program)
    talker.ask(read("a", service="\u202eevil \u2028 name"))
    line = daemon.wait_log("service_not_allowed")
    assert line.isascii()
    assert json.loads(line)["service"] == "\u202eevil \u2028 name"


def test_it_guards_its_memory(world: World) -> None:
    daemon = world.start()
    with open(f"/proc/{daemon.pid}/limits") as limits:
        core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    # A process that forbids dumps belongs to root in /proc (proc(5)): nobody of the same user can read its memory.
    assert os.stat(f"/proc/{daemon.pid}/environ").st_uid == 0
    assert world.spawn(["/bin/cat", f"/proc/{daemon.pid}/environ"]).wait() != 0


def test_it_guards_its_memory_before_it_is_loaded() -> None:
    """Whoever opens its memory before that reads on, and most of a start is loading."""
    code = """
import ctypes, sys
class Onlooker:
    def find_spec(self, name, path, target=None):
        if name == "click":
            print(ctypes.CDLL(None).prctl(3))  # PR_GET_DUMPABLE
sys.meta_path.insert(0, Onlooker())
from keychain_auth.cli.main import main
main(sys.argv[1:])
"""
    for words, dumpable in (
        (["status", "--help"], "1"),
        (["start", "--help"], "0"),
        (["--system", "start", "--help"], "0"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
        assert done.stdout.split()[0] == dumpable


def test_the_daemon_is_loaded_without_tls_and_whoever_needs_it_still_gets_it() -> None:
    code = """
import sys
import keychain_auth.daemon.app
assert "ssl" not in sys.modules and "asyncio" in sys.modules
import ssl
assert ssl.create_default_context()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
