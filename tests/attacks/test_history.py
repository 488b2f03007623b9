"""What everybody of the user may say to the admin socket without a passphrase must not end the audit log's history.

Each command of these leaves a line. Sent ten thousand times, lines push older ones out of the files that are kept.
"""

from __future__ import annotations

import json

import pytest

from attacks.launch_lab import ASKING, registered
from daemon.requests import PENDING, denied, read
from support.person import protect, told
from support.waiting import Onlooker
from support.world import World

_FLOOD = """
import json, sys
from keychain_auth.client.admin import Conversation
with Conversation(timeout=60) as daemon:
    for _ in range(int(sys.argv[1])):
        try:
            daemon.ask(sys.argv[2], **json.loads(sys.argv[3]))
        except Exception:
            pass
"""
TIMES = 100


@pytest.fixture
def guarded(world: World) -> World:
    """With a passphrase, nothing but these commands is open to other programs."""
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    world.start()
    protect(world)
    return world


def flood(world: World, command: str, **fields: str) -> None:
    words = [world.python, "-c", _FLOOD, str(TIMES), command, json.dumps(fields)]
    assert world.spawn(words, env={"KEYCHAIN_AUTH_SOCKET": world.socket}).wait() == 0


def lines(world: World, action: str) -> list[dict[str, object]]:
    return [line for line in world.audit() if line["action"] == action]


def test_launches_that_are_refused_are_counted(world: World) -> None:
    world.start()
    script = registered(world, world.write("app.py", ASKING))
    flood(world, "launch-ready", target=script)  # by a process that is not ready
    refused = lines(world, "launch")
    assert [line["result"] for line in refused] == ["DENIED"] * len(refused)
    assert 0 < len(refused) < 10


def test_locking_what_is_locked_is_nothing_to_record(guarded: World) -> None:
    flood(guarded, "lock")
    flood(guarded, "unlock")  # without a passphrase
    told(guarded, "unlock")
    assert len(lines(guarded, "admin_lock")) == 1
    assert len(lines(guarded, "admin_unlock")) < 10


def test_no_is_said_once(guarded: World) -> None:
    look = Onlooker(guarded)
    talker = guarded.asking(read("a", wait=600))
    look.until()
    [asked] = look.now()
    flood(guarded, "waiting-refuse", target=str(asked["id"]))
    assert talker.answer() == denied(PENDING)
    assert len(lines(guarded, "admin_waiting_refuse")) == 1


def test_what_a_locked_vault_cannot_do_is_counted(guarded: World) -> None:
    told(guarded, "lock", passphrase=None)
    flood(guarded, "get", service="aws", target="secret")
    told(guarded, "unlock")
    assert 0 < len(lines(guarded, "admin_read")) < 10
