"""The slot of a Windows helper, with a stand-in that keeps its contract, and with ones that break it."""

from __future__ import annotations

import base64
import os

import pytest

from daemon.requests import failed, read, results, write
from keychain_auth.errors import VaultKeyMissing
from keychain_auth.protectors import wsl
from keychain_auth.protectors.wsl import WslHelper
from support.world import World

# What a helper does with DPAPI, done with a key of its own: it binds the blob to the name.
HELPER = """#!{python}
import base64, hashlib, hmac, json, sys
KEY = open({key!r}, "rb").read()
asked = json.loads(sys.stdin.readline())
assert asked["version"] == 1
pad = hashlib.sha256(KEY + asked["name"].encode()).digest()
xor = lambda data: bytes(a ^ b for a, b in zip(data, pad))
if asked["action"] == "protect":
    secret = base64.b64decode(asked["secret"])
    tag = hmac.digest(KEY, secret, "sha256")
    answer = {{"ok": True, "blob": base64.b64encode(xor(secret) + tag).decode()}}
else:
    blob = base64.b64decode(asked["blob"])
    secret = xor(blob[:32])
    good = hmac.compare_digest(hmac.digest(KEY, secret, "sha256"), blob[32:])
    answer = {{"ok": True, "secret": base64.b64encode(secret).decode()}} if good else {{"ok": False, "error": "no"}}
sys.stdout.write("\\ufeff" + json.dumps(answer) + "\\r\\n")
"""


@pytest.fixture
def helper(world: World) -> str:
    """The path of a stand-in helper."""
    key = world.write("windows.key", os.urandom(32))
    return world.write("bin/helper.exe", HELPER.format(python=world.installation.interpreter, key=key), 0o755)


def broken(world: World, body: str) -> WslHelper:
    """A helper that answers with ``body``."""
    return WslHelper(world.write("bin/broken.exe", f"#!/bin/sh\ncat >/dev/null\n{body}\n", 0o755))


def test_the_helper_gives_back_what_it_protected(world: World, helper: str) -> None:
    params, key = WslHelper(helper).create()
    assert WslHelper(helper).unwrap_key(params) == key
    assert bytes(key) not in base64.b64decode(params["blob"])
    with pytest.raises(VaultKeyMissing, match="does not unprotect the key: no"):
        WslHelper(helper).unwrap_key({**params, "name": "another"})
    world.write("windows.key", os.urandom(32))  # another account
    with pytest.raises(VaultKeyMissing, match="does not unprotect the key: no"):
        WslHelper(helper).unwrap_key(params)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("exit 3", "it ended with 3, and without an answer"),
        ("echo hello", "without an answer"),
        ("echo '[]'", "without an answer"),
        ("""echo '{"ok": true}'""", "has no secret"),
        ("""echo '{"ok": true, "secret": 7}'""", "has no secret"),
        ("""echo '{"ok": true, "secret": "AAAA"}'""", "is no key"),
        ("""echo '{"ok": false, "error": "the person said no"}'""", "the person said no"),
        ("head -c 100000 /dev/zero", "without an answer"),
    ],
)
def test_a_helper_that_breaks_the_contract(world: World, helper: str, body: str, why: str) -> None:
    params, _ = WslHelper(helper).create()
    with pytest.raises(VaultKeyMissing, match=why):
        broken(world, body).unwrap_key(params)


def test_a_helper_that_protects_nothing(world: World) -> None:
    naive = world.write(
        "bin/naive.exe",
        f"#!{world.installation.interpreter}\nimport json, sys\nasked = json.loads(sys.stdin.readline())\n"
        'print(json.dumps({"ok": True, "blob": asked["secret"]}))\n',
        0o755,
    )
    with pytest.raises(VaultKeyMissing, match="protects nothing"):
        WslHelper(naive).create()


def test_no_helper_and_a_slow_one(world: World, helper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params, _ = WslHelper(helper).create()
    with pytest.raises(VaultKeyMissing, match="no Windows helper is set"):
        WslHelper("").unwrap_key(params)
    with pytest.raises(VaultKeyMissing, match="cannot run"):
        WslHelper("/nonexistent/helper.exe").unwrap_key(params)
    monkeypatch.setattr(wsl, "_SECONDS", 0.2)
    with pytest.raises(VaultKeyMissing, match="did not answer within"):
        broken(world, "exec sleep 60").unwrap_key(params)
    for wrong in ({}, {"name": "x"}, {**params, "blob": "!"}):
        with pytest.raises(ValueError, match="lacks"):
            WslHelper(helper).unwrap_key(wrong)


def test_the_daemon_opens_by_the_helper(world: World, helper: str) -> None:
    world.write_settings(f'[lock]\nwsl_helper = "{helper}"\n')
    program = world.granted("talker", "aws")
    daemon = world.start()
    world.talker(program).ask(write({"a": "hunter2"}))
    assert world.cli_json("protect", "add", "wsl")["number"] == 2
    world.cli_json("protect", "remove", "1")
    daemon.stop()
    daemon = world.start()
    assert world.talker(program).ask(read("a")) == results({"target": "a", "value": "hunter2"})
    assert world.cli_json("status")["protection"].startswith("wsl stops whoever has the files")
    daemon.stop()
    os.rename(helper, f"{helper}.gone")
    daemon = world.start()
    daemon.wait_log("cannot run")
    assert world.talker(program).ask(read("a")) == failed("keychain_locked")
    os.rename(f"{helper}.gone", helper)
    assert world.cli_json("unlock")["outcome"] == "unlocked"
    assert world.talker(program).ask(read("a")) == results({"target": "a", "value": "hunter2"})
