"""The second look, who is hashed for whom, and for how long: with a peer whose every fact the test decides."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import msgspec
import pytest

from daemon.peers import FACTS, HOST, KEY, LIMITS, Interpreter, ScriptedPeer, attested, run
from keychain_auth.daemon.attesting import hasher as hasher_module
from keychain_auth.daemon.attesting.attestation import Attested, Attestor
from keychain_auth.daemon.attesting.hasher import Hasher
from keychain_auth.daemon.attesting.workers import Workers
from keychain_auth.identity.attest import Refusal
from keychain_auth.identity.facts import ExecId, FileFacts
from keychain_auth.platform.base import Digest
from keychain_auth.policy.parse import parse_policy
from keychain_auth.wire.messages import Limits


def test_a_process_that_changed_while_it_was_hashed_is_refused() -> None:
    replaced = msgspec.structs.replace(FACTS, exec_id=ExecId(11, (13,)))
    inherited = msgspec.structs.replace(FACTS, inheritable=True)
    for second, reason in ((replaced, "caller_changed"), (inherited, "socket_not_cloexec")):
        hasher = Hasher(1000)
        result = run(attested(hasher, ScriptedPeer(FACTS, second)))
        hasher.close()
        assert isinstance(result, Refusal)
        assert result.reason == reason


def test_nobody_waits_longer_than_the_deadline_and_the_thread_lives_on() -> None:
    async def late() -> None:
        hasher = Hasher(1000)
        slow = ScriptedPeer()
        slow.go.clear()
        result = await attested(hasher, slow, Limits(verify_seconds=0.05))
        assert isinstance(result, Refusal)
        assert (result.reason, "0.05 seconds" in result.why) == ("identity_not_verified", True)
        slow.go.set()
        other = msgspec.structs.replace(KEY, inode=99)
        next_one: Any = ScriptedPeer(digest=Digest(other, "b" * 64, of_root=False, keep=True))
        assert (await hasher.digest(other, next_one.hash_program, False, 10)).sha256 == "b" * 64
        assert slow.hashed == 0  # nobody waited for it any more: it ended at its next piece
        hasher.close()

    run(late())


def test_who_leaves_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a crowd that was killed would keep its places until its deadline, and the disk busy."""
    monkeypatch.setattr(hasher_module, "_WANTED_SECONDS", 0.01)

    async def leave() -> None:
        hasher = Hasher(1000)
        slow = ScriptedPeer()
        slow.go.clear()
        waiting = asyncio.ensure_future(attested(hasher, slow))
        await asyncio.to_thread(slow.hashing.wait, 10)
        assert not waiting.done()
        slow.connected = False
        result = await waiting
        assert isinstance(result, Refusal)
        assert "closed the connection" in result.why
        slow.go.set()
        hasher.close()

    run(leave())


def test_few_strangers_wait_and_registered_programs_always_can() -> None:
    async def crowd() -> None:
        hasher = Hasher(1000)
        limits = Limits(verifying=3, verifying_per_process=2)
        policy = parse_policy(json.dumps({
            "protocol_version": "1", "registered_binaries": [{"path": "/usr/bin/known", "hash": "b" * 64}],
        }).encode())  # fmt: skip
        looks = Workers("look", 1)
        attestor = Attestor(HOST, hasher, looks, limits, strict=False)
        slow = [ScriptedPeer() for _ in range(5)]
        for at, pid in enumerate((10, 10, 10, 11, 12)):
            slow[at].pid = pid
            slow[at].go.clear()
        tasks = [asyncio.ensure_future(attestor.attest(peer, policy)) for peer in slow]
        third, fifth = await tasks[2], await tasks[4]
        assert isinstance(third, Refusal)
        assert isinstance(fifth, Refusal)
        assert third.reason == fifth.reason == "rate_limited"
        assert "of this process" in third.why
        key = msgspec.structs.replace(KEY, inode=99)
        facts = msgspec.structs.replace(FACTS, at_path=(5, 99), executable=FileFacts("/usr/bin/known", key, "ext4"))
        known = ScriptedPeer(facts, digest=Digest(key, "b" * 64, of_root=False, keep=True))
        assert isinstance(await attestor.attest(known, policy), Attested)
        assert not any(tasks[at].done() for at in (0, 1, 3))
        for peer in slow:
            peer.go.set()
        assert all([isinstance(await tasks[at], Attested) for at in (0, 1, 3)])
        hasher.close()
        looks.close()

    run(crowd())


def test_a_registered_script_does_not_wait_for_another_script_of_its_interpreter() -> None:
    async def beside() -> None:
        hasher = Hasher(1000)
        looks = Workers("look", 1)
        policy = parse_policy(json.dumps({"protocol_version": "1", "registered_binaries": [{
            "path": "/opt/app.py", "hash": "d" * 64, "minimum_grade": "declared",
            "interpreter": {"path": "/usr/bin/python3", "hash": "c" * 64},
        }]}).encode())  # fmt: skip
        attestor = Attestor(HOST, hasher, looks, LIMITS, strict=False)
        evil = [Interpreter(f"/opt/evil{number}.py", held=True) for number in range(4)]
        waiting = [asyncio.ensure_future(attestor.attest(cast(Any, peer), policy)) for peer in evil]
        result = await attestor.attest(cast(Any, Interpreter("/opt/app.py")), policy)
        assert isinstance(result, Attested)
        assert result.identity.subject.path == "/opt/app.py"
        assert not any(task.done() for task in waiting)
        for peer in evil:
            peer.held.set()
        assert all([isinstance(await task, Attested) for task in waiting])
        hasher.close()
        looks.close()

    run(beside())
