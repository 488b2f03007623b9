"""Scripts at the grade "declared": what it stops, and what it says of itself that it does not stop."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from daemon.requests import PENDING
from support.world import World

# Written against nothing but the published class: constructor, send_request, close.
PROGRAM = """
import json, sys
from keychain_auth import KeychainAuthClient

try:
    client = KeychainAuthClient()
    client.send_request({"type": "REQUEST", "action": "write", "service": "AgentSecrets",
        "targets": ["proj_123:development:DATABASE_URL", "proj_123:staging:DATABASE_URL",
                    "proj_123:production:DATABASE_URL"],
        "values": ["postgres://dev", "postgres://staging", "postgres://prod"]})
    answer = client.send_request({"type": "REQUEST", "action": "read", "service": "AgentSecrets",
        "match": "prefix", "targets": ["proj_123:staging:"]})
    client.close()
    print(json.dumps(answer))
except RuntimeError as error:
    print(json.dumps({"error": str(error)}))
"""
STAGING = [{"target": "proj_123:staging:DATABASE_URL", "value": "postgres://staging"}]


def register(world: World, path: str) -> None:
    """Register the script at the grade that this file is about."""
    words = ("register", "--script", path, "--allow-declared", "--interpreter", os.path.realpath(world.python))
    assert world.cli(*words).returncode == 0


@pytest.fixture
def script(world: World) -> str:
    """A registered and authorised script, and a running daemon."""
    path = world.write("app.py", PROGRAM)
    world.start()
    register(world, path)
    assert world.cli("authorize", path, "AgentSecrets").returncode == 0
    return path


def run(world: World, *words: str, cwd: str = "") -> dict[str, Any]:
    """Run an interpreter with these words; what the program printed."""
    process = world.spawn([world.python, *words], env={"KEYCHAIN_AUTH_SOCKET": world.socket}, cwd=cwd)
    at = process.out.find(lambda line: line.startswith(b"{"))
    process.wait()
    return dict(json.loads(process.out[at]))


def refused(world: World, *words: str, cwd: str = "") -> bool:
    return run(world, *words, cwd=cwd) == {"error": f"Daemon rejected request: {PENDING}"}


def test_a_program_of_the_published_class_works_unchanged(world: World, script: str) -> None:
    assert run(world, script)["results"] == STAGING
    assert run(world, "app.py", cwd=world.home)["results"] == STAGING
    assert run(world, "-B", "-u", script, "argument")["results"] == STAGING


def test_a_link_to_the_script_is_the_script(world: World, script: str) -> None:
    os.symlink(script, world.path("link.py"))
    assert run(world, world.path("link.py"))["results"] == STAGING


def test_registering_one_script_registers_no_other(world: World, script: str) -> None:
    other = world.write("other.py", PROGRAM + "# other\n")
    assert refused(world, other)
    [entry] = world.pending()
    assert entry["path"] == other
    assert entry["interpreter"]["path"] == os.path.realpath(world.python)


def test_an_equal_copy_elsewhere_is_not_the_script(world: World, script: str) -> None:
    assert refused(world, world.write("copy/app.py", PROGRAM))


def test_code_from_the_command_line_or_stdin_is_no_script(world: World, script: str) -> None:
    assert refused(world, "-c", PROGRAM, script)
    module = world.write("lib/evil.py", PROGRAM)
    assert refused(world, "-m", "evil", cwd=os.path.dirname(module))
    assert [entry["path"] for entry in world.pending()] == [os.path.realpath(world.python)]


def test_a_changed_script_is_another_program(world: World, script: str) -> None:
    world.write("app.py", PROGRAM + "# changed\n")
    assert refused(world, script)
    assert world.cli("upgrade", script).returncode == 0
    assert run(world, script)["results"] == STAGING


def test_a_folder_that_others_can_write_proves_nothing(world: World, script: str) -> None:
    path = world.write("open/app.py", PROGRAM)
    os.chmod(os.path.dirname(path), 0o777)
    register(world, path)
    world.cli("authorize", path, "AgentSecrets")
    assert run(world, path) == {"error": "Daemon rejected request: identity_not_verified"}
    os.chmod(os.path.dirname(path), 0o700)
    assert run(world, path)["results"] == STAGING


def test_an_interpreter_written_into_the_policy_by_hand_grants_no_script(world: World, script: str) -> None:
    """The easy mistake: registering python3 itself. A naive broker then serves every script of the machine."""
    world.allow(os.path.realpath(world.python), ["AgentSecrets"], ["AgentSecrets"], True)
    assert refused(world, world.write("evil.py", PROGRAM + "# evil\n"))
    assert refused(world, "-c", PROGRAM)


TURNCOAT = """
import json, os, sys
from keychain_auth import KeychainAuthClient

client = KeychainAuthClient()
request = {"type": "REQUEST", "action": "write", "service": "AgentSecrets", "targets": ["secret"], "values": ["x"]}
client.send_request(request)  # verified, and served
for name in os.listdir("/proc/self/fd"):
    link = "/proc/self/fd/" + name
    if os.path.lexists(link) and os.readlink(link).startswith("socket:"):
        os.set_inheritable(int(name), True)
        os.execv(sys.executable, [sys.executable, sys.argv[1], name])
"""
HEIR = """
import socket, sys
connection = socket.socket(fileno=int(sys.argv[1]))
connection.setblocking(True)  # the flag belongs to the open file, and the client had cleared it
connection.sendall(b'{"type":"REQUEST","action":"read","service":"AgentSecrets","targets":["secret"]}' + bytes([10]))
print(connection.makefile().readline())
"""


def test_the_same_interpreter_after_an_exec_is_another_program(world: World) -> None:
    """Device and inode of the executable are the same as before: a naive look at each message sees no change."""
    path = world.write("turncoat.py", TURNCOAT)
    world.start()
    register(world, path)
    world.cli("authorize", path, "AgentSecrets")
    answer = run(world, path, world.write("heir.py", HEIR))
    assert answer == {"type": "RESPONSE", "status": "denied", "reason": "caller_changed"}


OVERWRITE = """
import ctypes, json, os, sys
# A command line is the process's own memory: find it through /proc/self/stat and write another script's name into it.
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
start, end = int(fields[45]), int(fields[46])
claim = os.fsencode(sys.executable) + b"\\0" + os.fsencode(sys.argv[1]) + b"\\0"
assert len(claim) <= end - start
ctypes.memset(start, 0, end - start)
ctypes.memmove(start, claim, len(claim))
"""


def test_expected_open_a_script_that_overwrites_its_own_command_line(world: World, script: str) -> None:
    """Declared is a claim, and this is its price: docs/threat-model.md lists it as open in this mode."""
    liar = world.write("liar.py", OVERWRITE + PROGRAM)
    # The padding makes room for the claim; a trailing run of NULs reads as empty arguments.
    assert run(world, liar, script, "padding" * 20)["results"] == STAGING
