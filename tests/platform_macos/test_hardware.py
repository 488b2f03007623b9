"""What only a Mac can say: the same code, with macOS itself behind it.

Skipped everywhere else, and on a Mac unless ``KEYCHAIN_AUTH_TEST_HARDWARE`` is set: it writes into the default keychain
(items of a service of its own, which it removes). .github/workflows/platforms.yml runs it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from keychain_auth.keychain.base import Keychain
from keychain_auth.keychain.kinds import MacosKeychainSettings, open_keychain
from keychain_auth.model import Item
from keychain_auth.native import keychain_services
from keychain_auth.platform.base import PeerGone
from keychain_auth.platform.macos import libproc
from keychain_auth.platform.macos.macos import MacosPlatform
from keychain_auth.platform.macos.peer import MacosPeer
from keychain_auth.protectors.macos_keychain import MacosKeychainItem

pytestmark = pytest.mark.skipif(
    sys.platform != "darwin" or not os.environ.get("KEYCHAIN_AUTH_TEST_HARDWARE"),
    reason="this is no Mac, or KEYCHAIN_AUTH_TEST_HARDWARE is not set",
)
_CLIENT = """
import socket, sys
inheritable = sys.argv[2] == "inheritable"
connection = socket.socket(socket.AF_UNIX)
connection.set_inheritable(inheritable)
connection.connect(sys.argv[1])
connection.sendall(b"hello")
connection.recv(1)
"""


@pytest.fixture
def service() -> Iterator[str]:
    name = f"keychain-auth-test-{secrets.token_hex(8)}"
    yield name
    for password in keychain_services.names(name):
        keychain_services.delete(name, password.account)


def test_the_keychain_keeps_what_it_is_given(service: str) -> None:
    keychain: Keychain = open_keychain("mac", MacosKeychainSettings(), 1_000_000)

    async def ask() -> None:
        assert await keychain.search(service, [], {}) == []
        await keychain.write(service, [("a", "1"), ("A", "\N{KEY}" * 10_000), ("é", "")], {"team": "x"})
        await keychain.write(service, [("a", "2")], {})
        assert await keychain.read(service, ["a", "A", "é", "none"], {}) == [
            Item("a", "2"), Item("A", "\N{KEY}" * 10_000, {"team": "x"}), Item("é", "", {"team": "x"}),
        ]  # fmt: skip
        assert service in await keychain.services()
        await keychain.delete(service, ["a", "A", "none"], {})
        assert await keychain.search(service, [], {}) == [Item("é", None, {"team": "x"})]
        await keychain.close()

    asyncio.run(ask())


def test_the_slot_gives_its_key_back() -> None:
    protector = MacosKeychainItem()
    params, key = protector.create()
    protector.commit()
    try:
        assert MacosKeychainItem().unwrap_key(params) == key
    finally:
        protector.withdraw(params)


@pytest.mark.parametrize("inheritable", [False, True])
def test_the_process_on_the_other_end(inheritable: bool) -> None:
    folder = tempfile.mkdtemp(prefix="ka-", dir="/tmp")  # a socket's path is short
    listener = MacosPlatform().listen(f"{folder}/agent.sock")
    child = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, listener.path, "inheritable" if inheritable else "private"]
    )
    try:
        with socket.socket(fileno=os.dup(listener.fileno())) as waiting:
            waiting.setblocking(True)
            waiting.settimeout(60)
            channel = listener.accept() if _ready(waiting) else None
        assert channel is not None
        assert channel.peer_credentials() == (child.pid, os.geteuid())
        peer = channel.peer()
        facts = peer.facts(patient=True)
        assert os.path.realpath(facts.executable.path) == os.path.realpath(libproc.path_of(child.pid))
        assert facts.at_path == (facts.executable.key.device, facts.executable.key.inode)
        assert facts.executable.filesystem in MacosPlatform().host().filesystems
        assert (facts.holds_socket, facts.inheritable, facts.tracer, facts.steady) == (True, inheritable, 0, True)
        with open(facts.executable.path, "rb") as file:
            assert peer.hash_program(10**9, lambda: None).sha256 == hashlib.file_digest(file, "sha256").hexdigest()
        assert peer.command_line()[1] == "-c"
        assert (peer.runs_same_exec(), peer.is_connected()) == (True, True)
        assert channel.receive() == (b"hello", child.pid)
        assert peer.strict_facts().holders == ()
        channel.close()
        child.wait(60)
        assert peer.runs_same_exec() is None
        with pytest.raises(PeerGone):
            MacosPeer.facts(peer, patient=True)
    finally:
        child.kill()
        child.wait(60)
        listener.close()
        shutil.rmtree(folder)


def _ready(listening: socket.socket) -> bool:
    return bool(select.select([listening], [], [], 20)[0])
