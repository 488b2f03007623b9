"""The sealed settings: with a passphrase set, a daemon serves by what a person accepted. Attacks first win without."""

from __future__ import annotations

import os
import signal

import pytest

from daemon.requests import failed, read, results
from daemon.test_activation import activated, admin_of, needs_systemd
from keychain_auth.daemon.settings import KeychainsSettings, Settings, difference_lines, parse_settings
from keychain_auth.daemon.state.settings_seal import STRICTEST, accepted_settings
from support.daemon import Daemon
from support.person import WORDS, protect, tell, told
from support.world import World

CHEAP = "[lock]\npassphrase_seconds = 0.001\n"
FORGET = "[limits]\ntargets = 1\n[history]\nvalues = 0\n"
SECRET = {"target": "key", "value": "new"}


@pytest.fixture
def cheap(world: World) -> World:
    """A running daemon with a secret that had an earlier value; passphrases cost little."""
    world.write_settings(CHEAP)
    world.granted("reader", "aws", variant="other")
    world.start()
    world.cli("set", "aws", "key", input="old")
    world.cli("set", "aws", "key", input="new")
    return world


def daemon_of(world: World) -> Daemon:
    return [process for process in world._processes if isinstance(process, Daemon)][-1]


def started_again(world: World) -> Daemon:
    """As any program of the user can have it: the daemon is killed, and somebody starts it."""
    daemon_of(world).kill()
    daemon_of(world).wait()
    return world.start()


def remembers(world: World) -> bool:
    """Is the earlier value still there, and do the limits of before count?"""
    reader = world.talker(world.read_policy()["registered_binaries"][0]["path"])
    return reader.ask(read("key", "none")) == results(SECRET) and len(told(world, "history", "aws", "key")) == 2


def kept(world: World) -> str:
    """All that is left of the audit log."""
    texts = []
    for name in os.listdir(world.data_dir):
        if name.startswith("audit.log"):
            with open(os.path.join(world.data_dir, name), encoding="utf-8") as file:
                texts.append(file.read())
    return "".join(texts)


def test_without_a_passphrase_whoever_writes_them_is_obeyed(cheap: World) -> None:
    """The attacks of this file win where nothing is sealed: values and record are thrown away."""
    first = cheap.audit()[0]["chain"]
    cheap.write_settings(FORGET + "[audit]\nmax_bytes = 1\nkeep = 1\n")
    started_again(cheap)
    for _ in range(3):
        cheap.cli("get", "aws", "key")
    assert len(cheap.cli_json("history", "aws", "key")) == 1
    assert first not in kept(cheap)


def test_a_vault_that_opens_by_itself_drops_nothing_by_settings_that_nobody_accepted(cheap: World) -> None:
    protect(cheap, key_file=True)
    pid = daemon_of(cheap).pid
    cheap.write_settings(FORGET + "[audit]\nmax_bytes = 1\nkeep = 1\n")
    first = cheap.audit()[0]["chain"]
    daemon = started_again(cheap)
    for _ in range(3):
        told(cheap, "get", "aws", "key")
    assert remembers(cheap)
    assert first in kept(cheap)
    assert daemon.pid != pid
    assert [line["result"] for line in cheap.audit() if line["action"] == "settings_unsealed"] == ["ERROR"]
    status = cheap.cli_json("status")
    assert (status["pid"], status["settings"]["state"]) == (daemon.pid, "last accepted")
    assert "nobody sealed" in status["settings"]["problem"]
    assert "daemon.toml IS NOT OBEYED: it was changed" in cheap.cli("status").stdout
    assert "daemon does not obey daemon.toml: it was changed" in cheap.cli("doctor").stdout


def test_a_locked_vault_opens_for_a_daemon_that_runs_by_what_was_accepted(cheap: World) -> None:
    program = cheap.granted("talker", "aws")
    protect(cheap)
    cheap.write_settings(FORGET)
    daemon = started_again(cheap)
    assert cheap.cli_json("status")["settings"]["state"] == "in force until the vault is opened"
    inode = os.stat(cheap.socket).st_ino
    early = cheap.talker(program)
    assert early.ask(read("key")) == failed("keychain_locked")
    assert tell(cheap, "unlock", passphrase="not the right one").returncode == 3
    done = tell(cheap, "unlock")  # one command, one passphrase: the daemon started anew in between
    assert done.returncode == 0, done.stderr
    assert "unlocked" in done.stdout
    assert "daemon.toml is not obeyed: it was changed, and nobody sealed" in done.stderr
    early.eof()  # what was looked at by the wrong settings is looked at anew
    assert cheap.talker(program).ask(read("key")) == results(SECRET)
    assert remembers(cheap)
    status = cheap.cli_json("status")
    assert (status["pid"], os.stat(cheap.socket).st_ino) == (daemon.pid, inode)
    # What was refused by the daemon before is on record, and so is why it went.
    lines = cheap.audit()
    assert [line["action"] for line in lines if line["reason"] == "keychain_locked"] == ["read"]
    assert [line.get("detail") for line in lines if line["action"] == "admin_unlock"][-2:] == [
        "the daemon starts anew with the settings that were accepted", None,
    ]  # fmt: skip
    assert cheap.cli("audit", "verify").returncode == 0


def test_a_lock_and_an_unlock_are_no_way_around(cheap: World) -> None:
    protect(cheap)
    cheap.write_settings(FORGET)
    for _ in range(2):
        cheap.cli("lock")
        assert told(cheap, "unlock")["outcome"] == "unlocked"
        assert remembers(cheap)


def test_what_one_daemon_tells_the_next_is_not_trusted_either(cheap: World) -> None:
    """Whoever starts the daemon can give it any text by the variable of a restart."""
    protect(cheap, key_file=True)
    daemon_of(cheap).stop()
    evil = 'export KEYCHAIN_AUTH_ACCEPTED_SETTINGS="$$:$0"; exec "$@"'
    cheap.start(before=["/bin/sh", "-c", evil, FORGET])
    assert remembers(cheap)
    assert cheap.cli_json("status")["settings"]["problem"] == ""


def test_a_person_accepts_settings_after_seeing_them(cheap: World) -> None:
    protect(cheap, key_file=True)
    cheap.write_settings(CHEAP + FORGET)
    assert tell(cheap, "policy", "seal", passphrase="not the right one").returncode == 3
    assert "nobody sealed" in cheap.cli_json("status")["settings"]["problem"]
    done = tell(cheap, "policy", "seal")
    assert done.returncode == 0, done.stderr
    assert "-history.values = 3\n+history.values = 0" in done.stdout
    assert "lock.passphrase_seconds" not in done.stdout
    assert "Next: keychain-auth restart" in done.stdout
    assert told(cheap, "policy", "seal")["outcome"] == "unchanged"
    status = cheap.cli_json("status")["settings"]
    assert (status["problem"], status["restart"]) == ("", True)
    assert "daemon.toml was changed since the daemon started" in cheap.cli("doctor").stdout
    assert remembers(cheap)
    assert cheap.cli_json("restart")["settings"]["state"] == "as accepted"
    assert not remembers(cheap)
    assert "admin_settings_seal" in [line["action"] for line in cheap.audit()]
    assert [line for line in cheap.audit() if line["action"] == "settings_unsealed"][1:] == []


def test_policy_and_settings_are_accepted_together(cheap: World) -> None:
    protect(cheap)
    program = cheap.granted("talker", "aws")
    cheap.write_settings(CHEAP + FORGET)
    shown = told(cheap, "policy", "seal")["difference"]
    assert "+history.values = 0" in shown
    assert f'+      "path": "{program}",' in shown
    assert cheap.talker(program).ask(read("key")) == results(SECRET)


def test_a_restart_goes_on_by_what_was_accepted(cheap: World) -> None:
    program = cheap.granted("talker", "aws")
    protect(cheap, key_file=True)
    for toml in (FORGET, "strict = maybe\n"):
        cheap.write_settings(toml)
        done = cheap.cli("restart")
        assert done.returncode == 0, done.stderr
        assert "daemon.toml is not obeyed" in done.stderr
        assert cheap.talker(program).ask(read("key")) == results(SECRET)
        assert remembers(cheap)
    assert daemon_of(cheap).stop() == 0
    daemon = cheap.start(ready=False)  # who was told nothing begins by the file, and says what is wrong with it
    assert daemon.wait() == 1
    assert "daemon.toml" in daemon.log


def test_formatting_does_not_count(cheap: World) -> None:
    protect(cheap, key_file=True)
    cheap.write_settings("# cheap\nstrict = false\n\n[lock]\npassphrase_seconds = 0.0010\nidle_seconds = 0.0\n")
    started_again(cheap)
    assert cheap.cli_json("status")["settings"]["problem"] == ""
    assert told(cheap, "policy", "seal")["outcome"] == "unchanged"


def test_an_edit_is_told_while_the_daemon_runs(cheap: World) -> None:
    protect(cheap, key_file=True)
    cheap.write_settings(FORGET)
    daemon_of(cheap).wait_log("daemon.toml is not obeyed")
    assert "nobody sealed" in cheap.cli_json("status")["settings"]["problem"]
    assert remembers(cheap)


def test_without_the_passphrase_the_file_is_obeyed_again(cheap: World) -> None:
    protect(cheap, key_file=True)
    cheap.write_settings(CHEAP + FORGET)
    assert tell(cheap, "protect", "remove", "2").returncode == 0
    assert cheap.cli_json("status")["settings"]["restart"] is True
    assert cheap.cli_json("restart")["settings"]["sealed"] is False
    assert len(cheap.cli_json("history", "aws", "key")) == 1


def test_what_the_daemon_does_not_run_by_cannot_be_sealed_by_the_way(cheap: World) -> None:
    cheap.write_settings(FORGET)
    done = tell(cheap, "protect", "add", "passphrase", passphrase=None, new=WORDS)
    assert done.returncode == 2
    assert "daemon.toml was changed since the daemon started" in done.stderr
    assert "Next: keychain-auth restart" in done.stderr
    assert len(cheap.cli_json("protect", "list")["slots"]) == 1


def test_a_vault_that_was_sealed_by_an_older_version_asks_for_the_settings_too(cheap: World) -> None:
    protect(cheap, key_file=True)
    daemon_of(cheap).stop()
    done = cheap.spawn([cheap.python, "-c", FORGET_SETTINGS, cheap.data_dir])
    assert done.wait() == 0, done.err.text()
    cheap.start()
    assert "nobody has accepted these settings yet" in cheap.cli_json("status")["settings"]["problem"]
    assert told(cheap, "policy", "seal")["difference"][-1] == "+lock.passphrase_seconds = 0.001"
    cheap.write_settings(FORGET)
    started_again(cheap)
    assert remembers(cheap)


FORGET_SETTINGS = """
import asyncio, os, sys
from keychain_auth.keychain.vault import open_vault
from keychain_auth.protectors.keyfile import KeyFile
folder = sys.argv[1]
vault = open_vault(folder, [KeyFile(os.path.join(folder, "vault.key"))])
async def forget():
    await vault.keep_own("settings", None)
    await vault.close()
asyncio.run(forget())
"""


def test_where_sockets_are_not_handed_on_the_same_process_begins_again(cheap: World) -> None:
    """As on macOS and Windows."""
    program = cheap.granted("talker", "aws")
    protect(cheap)
    daemon_of(cheap).stop()
    cheap.write_settings(FORGET)
    daemon = Daemon([cheap.python, "-c", KEEPS_ITS_SOCKETS], cheap.environment(), cheap.user, cheap.socket)
    cheap._processes.append(daemon)
    daemon.wait_ready()
    assert told(cheap, "unlock")["outcome"] == "unlocked"
    assert remembers(cheap)
    assert cheap.talker(program).ask(read("key")) == results(SECRET)
    assert cheap.cli_json("status")["pid"] == daemon.pid
    assert daemon.stop(signal.SIGTERM) == 0


KEEPS_ITS_SOCKETS = """
from keychain_auth.cli import app
from keychain_auth.platform.linux.linux import LinuxPlatform
LinuxPlatform.hands_on = False
app.run(["start"])
"""


@needs_systemd
def test_sockets_of_systemd_outlive_the_daemon_that_began_by_the_wrong_settings(cheap: World) -> None:
    program = cheap.granted("talker", "aws")
    protect(cheap, key_file=True)
    daemon_of(cheap).stop()
    cheap.write_settings(FORGET)
    daemon = activated(cheap, cheap.socket, admin_of(cheap))
    talker = cheap.talker(program)
    daemon.wait_ready()
    assert talker.ask(read("key")) == results(SECRET)
    assert remembers(cheap)
    assert daemon.stop() == 0
    assert os.path.exists(cheap.socket)


def test_what_this_version_cannot_read_is_replaced_by_what_refuses_more_and_loses_nothing() -> None:
    for text in ("from_the_future = true", "[", "\x00", "[history]\nvalues = -1"):
        assert accepted_settings(text) is STRICTEST
    assert STRICTEST.strict
    assert STRICTEST.history.values > 1000
    assert accepted_settings("") == Settings()


def test_the_difference_names_what_is_obeyed_and_hides_nothing() -> None:
    before = parse_settings(b'[keychains]\nroutes = { "a.b" = "vault" }')
    after = parse_settings('strict = true\n[keychains]\nroutes = { "a\u202eb" = "vault" }'.encode())
    assert difference_lines(before, after) == [
        '-keychains.routes."a.b" = "vault"',
        '+keychains.routes."a\\u202eb" = "vault"',
        "-strict = false",
        "+strict = true",
    ]
    assert difference_lines(before, before) == []
    assert difference_lines(Settings(), Settings(keychains=KeychainsSettings(routes={"x": "vault"})))
