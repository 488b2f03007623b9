"""The daemon, the command line and a client as on macOS, put together on Linux (on_linux.py): the way of a request.

Clients are native programs; each look at them goes through the code for macOS, in a worker thread, as there.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import Any

import pytest

from attacks.launch_lab import ASKING, output, secret_by
from attacks.naive import SECRET
from daemon.requests import SUCCESS, denied, read, results, write
from keychain_auth.cli import app
from keychain_auth.cli.commands.doctoring.checks import CHECKS, OF_THE_KERNEL
from support.daemon import Daemon
from support.world import World

HERE = os.path.dirname(os.path.abspath(__file__))
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux stands in for macOS here")


class Mac:
    """A home as on a Mac."""

    def __init__(self, world: World) -> None:
        self.world = world
        for name in ("as_macos.py", "on_linux.py"):
            with open(os.path.join(HERE, name), encoding="utf-8") as file:
                self.program = world.write(f"mac/{name}", file.read())
        self.base = world.path("Library/Application Support/keychain-auth")
        self.socket = f"{self.base}/agent.sock"

    def start(self) -> Daemon:
        words = [self.world.python, self.program, "start"]
        daemon = Daemon(words, self.world.environment(), self.world.user, self.socket)
        self.world._processes.append(daemon)
        return daemon.wait_ready()

    def cli(self, *arguments: str, code: int = 0) -> Any:
        process = self.world.spawn([self.world.python, self.program, *arguments, "--json"])
        assert process.wait() == code, process.err.text()
        return json.loads(process.out.text())


@pytest.fixture
def mac(world: World) -> Mac:
    return Mac(world)


def test_the_way_of_a_request(mac: Mac, world: World) -> None:
    """Write three, read one environment by its prefix; a stranger waits, is approved, and is cut off again."""
    program = world.build_client()
    daemon = mac.start()
    assert stat.S_IMODE(os.stat(mac.socket).st_mode) == 0o600
    mac.cli("register", program)
    mac.cli("authorize", program, "AgentSecrets")
    talker = world.talker(program, socket=mac.socket)
    values = {"p:staging:A": "1", "p:staging:B": "2", "p:prod:A": "3"}
    assert talker.ask(write(values, "AgentSecrets")) == SUCCESS
    assert talker.ask(read("p:staging:", service="AgentSecrets", match="prefix")) == results(
        {"target": "p:staging:A", "value": "1"}, {"target": "p:staging:B", "value": "2"}
    )

    stranger = world.build_client("stranger", variant="other")
    wanted = read("p:prod:A", service="AgentSecrets")
    assert world.talker(stranger, socket=mac.socket).ask(wanted) == denied("unregistered_binary_pending_approval")
    [waiting] = mac.cli("list-pending")
    assert waiting["path"] == stranger
    mac.cli("approve", waiting["hash"].removeprefix("sha256:"), "--read", "AgentSecrets")
    friend = world.talker(stranger, socket=mac.socket)
    assert friend.ask(wanted) == results({"target": "p:prod:A", "value": "3"})
    mac.cli("unregister", stranger)
    assert friend.ask(wanted)["status"] == "denied"

    found = mac.cli("status")
    assert found["identity"]["peer"].startswith("audit token with pid version")
    assert os.path.exists(world.path("Library/Logs/keychain-auth/audit.log"))
    assert daemon.stop() == 0
    assert not os.path.exists(mac.socket)


def test_a_publisher_is_asked_for(mac: Mac, world: World) -> None:
    program = world.build_client()
    mac.start()
    mac.cli("register", program, "--publisher", "ABCDE12345")
    mac.cli("authorize", program, "aws")
    assert world.talker(program, socket=mac.socket).ask(write({"a": "1"})) == SUCCESS
    mac.cli("register", program, "--publisher", "ANOTHER123")
    assert world.talker(program, socket=mac.socket).ask(write({"a": "1"})) == denied("identity_not_verified")


def test_doctor_says_what_is_so_there(mac: Mac, world: World) -> None:
    daemon = mac.start()
    mac.cli("register", world.build_client())
    found = mac.cli("doctor")
    assert found["healthy"]
    assert {one["check"] for one in found["checks"]} == set(CHECKS) - OF_THE_KERNEL
    assert {one["check"] for one in found["checks"] if one["level"] != "ok"} == {"slots"}
    key = f"{mac.base}/vault.key"
    os.chmod(key, 0o644)
    mends = [one["mend"] for one in mac.cli("doctor", code=1)["checks"] if one["level"] == "wrong"]
    assert mends == [f"chmod 600 '{key}'"]
    os.chmod(key, 0o600)
    assert daemon.stop() == 0
    [first, *_] = mac.cli("doctor", code=1)["checks"]
    assert (first["check"], first["mend"]) == ("socket", "keychain-auth start")


def test_a_script_is_declared_and_what_it_imports_is_not_recorded(mac: Mac, world: World) -> None:
    script = world.write("app.py", ASKING)
    python = world.installation.interpreter
    mac.start()
    program = world.build_client()
    mac.cli("register", program)
    mac.cli("authorize", program, "aws")
    assert world.talker(program, socket=mac.socket).ask(write({"secret": SECRET})) == SUCCESS
    mac.cli("register", "--script", script, "--interpreter", python, "--allow-declared")
    mac.cli("authorize", script, "aws")
    process = world.spawn([python, script], env={"KEYCHAIN_AUTH_SOCKET": mac.socket, "PYTHONPATH": None})
    assert secret_by(output(process)) == {"honest"}
    with open(f"{mac.base}/config.json", encoding="utf-8") as file:
        assert not any("launch" in entry for entry in json.load(file)["registered_binaries"])
    for option in ("--tree", "--app"):
        words = ("--tree", world.path("."), "--script", script) if option == "--tree" else ("--app", script)
        refused = world.spawn([world.python, mac.program, "register", *words])
        assert refused.wait() == 2
        assert "--script --allow-declared" in refused.err.text()


def test_every_command_can_be_loaded(world: World) -> None:
    """Nothing that only Linux has is asked for before it is needed."""
    modules = sorted({f"keychain_auth.cli.{name}" for name in command_modules()})
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, "as_macos.py"), "keychain_auth.daemon.app", *modules],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def command_modules() -> list[str]:
    """The modules of the command line."""
    folder = os.path.dirname(os.path.abspath(app.__file__))
    found = []
    for parent, _, names in os.walk(folder):
        inner = os.path.relpath(parent, folder).replace(os.sep, ".").lstrip(".")
        own = [name[:-3] for name in names if name.endswith(".py") and name != "__init__.py"]
        found += [f"{inner}.{name}".lstrip(".") for name in own]
    return found
