"""Hashing and the second look, with a peer whose every fact the test decides."""

from __future__ import annotations

import asyncio
import json
import threading
import types
import zlib
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar, cast

import msgspec
import pytest

from keychain_auth.daemon.attesting import hasher as hasher_module
from keychain_auth.daemon.attesting.attestation import Attested, Attestor
from keychain_auth.daemon.attesting.hasher import Hasher
from keychain_auth.daemon.attesting.workers import Overdue, Workers
from keychain_auth.identity.attest import LOCAL_FILESYSTEMS, Refusal
from keychain_auth.identity.facts import Code, ExecId, FileFacts, FileKey, HostFacts, Namespaces, PeerFacts, ScriptFacts
from keychain_auth.model import Signature
from keychain_auth.platform.base import Digest, Pace, PeerGone
from keychain_auth.policy.parse import EMPTY, Policy, parse_policy
from keychain_auth.wire.messages import Limits

T = TypeVar("T")
LIMITS = Limits()
KEY = FileKey(device=5, inode=6, size=7, mtime_ns=8, ctime_ns=9)
OURS = Namespaces(1, 2, 3)
FACTS = PeerFacts(
    pid=10, uid=1000, namespaces=OURS, executable=FileFacts("/usr/bin/tool", KEY, "ext4"), at_path=(5, 6),
    holds_socket=True, inheritable=False, exec_id=ExecId(11, (12,)), seccomp_filters=0, tracer=0,
    code=Code(program=True), steady=True,
)  # fmt: skip
HOST = HostFacts(1000, OURS, LOCAL_FILESYSTEMS)


class ScriptedPeer:
    """``looks`` are what each look at it shows; the last one stays."""

    pid, uid = 10, 1000

    def __init__(self, *looks: PeerFacts, digest: Digest | None = None) -> None:
        self._looks = list(looks) or [FACTS]
        self._digest = digest or Digest(KEY, "a" * 64, of_root=False, keep=True)
        self.hashed = 0
        self.connected = True
        self.hashing = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def facts(self, *, patient: bool = False) -> PeerFacts:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def hash_program(self, limit: int, pace: Pace, keys: Collection[bytes] = ()) -> Digest:
        self.hashing.set()
        self.go.wait(10)
        pace()
        self.hashed += 1
        return self._digest

    def is_connected(self) -> bool:
        return self.connected

    def command_line(self) -> tuple[str, ...]:
        return ("tool",)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def attested(hasher: Hasher, peer: Any, limits: Limits = LIMITS, policy: Policy = EMPTY) -> Attested | Refusal:
    looks = Workers("look", 1)
    try:
        return await Attestor(HOST, hasher, looks, limits, strict=False).attest(peer, policy)
    finally:
        looks.close()


def test_a_process_that_changed_while_it_was_hashed_is_refused() -> None:
    replaced = msgspec.structs.replace(FACTS, exec_id=ExecId(11, (13,)))
    inherited = msgspec.structs.replace(FACTS, inheritable=True)
    for second, reason in ((replaced, "caller_changed"), (inherited, "socket_not_cloexec")):
        hasher = Hasher(1000)
        result = run(attested(hasher, ScriptedPeer(FACTS, second)))
        hasher.close()
        assert isinstance(result, Refusal)
        assert result.reason == reason


def test_a_hash_is_remembered_only_where_that_is_sound() -> None:
    async def twice(keep: bool) -> int:
        hasher = Hasher(1000)
        peer = ScriptedPeer(digest=Digest(KEY, "a" * 64, of_root=False, keep=keep))
        for _ in range(2):
            assert isinstance(await attested(hasher, peer), Attested)
        hasher.close()
        return peer.hashed

    assert run(twice(True)) == 1
    assert run(twice(False)) == 2


class SignedPeer(ScriptedPeer):
    """Its file has a signature by ``signer``, which is found only if that key is tried."""

    def __init__(self, signer: bytes) -> None:
        super().__init__()
        self.signer = signer

    def hash_program(self, limit: int, pace: Pace, keys: Collection[bytes] = ()) -> Digest:
        plain = super().hash_program(limit, pace, keys)
        found = Signature(self.signer) if self.signer in keys else None
        return msgspec.structs.replace(plain, signature=found, tried=frozenset(keys))


def trusting(*keys: bytes) -> Policy:
    return msgspec.structs.replace(EMPTY, signers={key: frozenset({"own"}) for key in keys})


def test_a_file_is_read_again_for_a_signer_that_was_not_tried() -> None:
    first, second = b"1" * 32, b"2" * 32

    async def asked() -> list[tuple[Signature | None, int]]:
        hasher, peer, seen = Hasher(1000), SignedPeer(second), []
        for keys in ((first,), (first,), (first, second), (second,), (), (first, second)):
            attested_now = await attested(hasher, peer, policy=trusting(*keys))
            assert isinstance(attested_now, Attested)
            seen.append((attested_now.identity.signature, peer.hashed))
        hasher.close()
        return seen

    found = Signature(second)
    # A remembered signature stays in the identity when nobody trusts it any more: the policy is asked each time.
    assert run(asked()) == [(None, 1), (None, 1), (found, 2), (found, 2), (found, 2), (found, 2)]


def test_who_waits_for_a_hash_that_tried_too_few_keys_has_it_read_again() -> None:
    first, second = b"1" * 32, b"2" * 32

    async def two() -> list[Signature | None]:
        hasher, peer = Hasher(1000), SignedPeer(second)
        peer.go.clear()
        early = asyncio.ensure_future(attested(hasher, peer, policy=trusting(first)))
        await asyncio.to_thread(peer.hashing.wait, 10)
        late = asyncio.ensure_future(attested(hasher, peer, policy=trusting(first, second)))
        await asyncio.sleep(0)
        peer.go.set()
        results = [await early, await late]
        hasher.close()
        return [result.identity.signature for result in results if isinstance(result, Attested)]

    assert run(two()) == [None, Signature(second)]


def test_a_file_without_a_signature_is_read_once_for_all_signers() -> None:
    async def asked() -> int:
        hasher = Hasher(1000)
        peer = ScriptedPeer(digest=Digest(KEY, "a" * 64, of_root=False, keep=True, tried=None))
        for keys in ((), (b"1" * 32,), (b"1" * 32, b"2" * 32)):
            await attested(hasher, peer, policy=trusting(*keys))
        hasher.close()
        return peer.hashed

    assert run(asked()) == 1


def test_a_file_that_is_another_after_hashing_is_refused() -> None:
    async def hash_it() -> None:
        hasher = Hasher(1000)
        other: Any = ScriptedPeer(
            digest=Digest(msgspec.structs.replace(KEY, ctime_ns=10), "a" * 64, of_root=False, keep=True)
        )
        try:
            with pytest.raises(PeerGone, match="changed while it was hashed"):
                await hasher.digest(KEY, other.hash_program, True, 5)
        finally:
            hasher.close()

    run(hash_it())


def test_many_connections_of_one_program_are_one_hash() -> None:
    async def crowd() -> int:
        hasher = Hasher(1000)
        peer = ScriptedPeer(digest=Digest(KEY, "a" * 64, of_root=False, keep=False))
        results = await asyncio.gather(*(attested(hasher, peer) for _ in range(50)))
        hasher.close()
        assert all(isinstance(result, Attested) for result in results)
        return peer.hashed

    assert run(crowd()) == 1


def test_a_registered_program_does_not_wait_for_strangers() -> None:
    async def beside() -> None:
        hasher = Hasher(1000)
        slow: Any = ScriptedPeer()
        slow.go.clear()
        waiting = asyncio.ensure_future(hasher.digest(KEY, slow.hash_program, False, 20))
        await asyncio.to_thread(slow.hashing.wait, 10)
        other = msgspec.structs.replace(KEY, inode=99)
        quick: Any = ScriptedPeer(digest=Digest(other, "b" * 64, of_root=False, keep=True))
        assert (await hasher.digest(other, quick.hash_program, True, 5)).sha256 == "b" * 64
        # Not even for the same file: a stranger can connect from a hard link to it.
        same: Any = ScriptedPeer()
        assert (await hasher.digest(KEY, same.hash_program, True, 5)).sha256 == "a" * 64
        assert not waiting.done()
        slow.go.set()
        assert (await waiting).sha256 == "a" * 64
        hasher.close()

    run(beside())


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


def test_what_is_wanted_again_is_hashed_after_all() -> None:
    async def again() -> None:
        hasher = Hasher(1000)
        slow: Any = ScriptedPeer()
        slow.go.clear()
        with pytest.raises(Overdue):
            await hasher.digest(KEY, slow.hash_program, False, 0.05)
        waiting = asyncio.ensure_future(hasher.digest(KEY, slow.hash_program, False, 10))
        await asyncio.sleep(0)
        slow.go.set()
        assert (await waiting).sha256 == "a" * 64
        hasher.close()

    run(again())


def test_a_file_above_the_limit_waits_for_nobody() -> None:
    async def large() -> None:
        hasher = Hasher(1000)
        slow: Any = ScriptedPeer()
        slow.go.clear()
        waiting = asyncio.ensure_future(hasher.digest(KEY, slow.hash_program, False, 10))
        huge = msgspec.structs.replace(KEY, inode=99, size=2 * 1024**3)
        facts = msgspec.structs.replace(FACTS, at_path=(5, 99), executable=FileFacts("/usr/bin/huge", huge, "ext4"))
        peer = ScriptedPeer(facts)
        result = await attested(hasher, peer)
        assert isinstance(result, Refusal)
        assert "too large" in result.why
        assert peer.hashed == 0
        slow.go.set()
        await waiting
        hasher.close()

    run(large())


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


class Interpreter(ScriptedPeer):
    """Runs the script ``path``; ``held`` keeps its hash waiting."""

    def __init__(self, path: str, held: bool = False) -> None:
        key = msgspec.structs.replace(KEY, inode=50)
        executable = FileFacts("/usr/bin/python3", key, "ext4")
        super().__init__(
            msgspec.structs.replace(FACTS, at_path=(5, 50), executable=executable),
            digest=Digest(key, "c" * 64, of_root=False, keep=True),
        )
        self.facts_of_script = ScriptFacts(path, "", "ext4")
        self.key = msgspec.structs.replace(KEY, inode=zlib.crc32(path.encode()))
        self.held = threading.Event()
        if not held:
            self.held.set()

    def command_line(self) -> tuple[str, ...]:
        return ("python3", self.facts_of_script.path)

    def open_script(self, word: str) -> Any:
        script = types.SimpleNamespace(key=self.key, facts=self.facts_of_script, close=lambda: None)
        script.hash = self._hash_script
        script.hashed = lambda sha256: msgspec.structs.replace(self.facts_of_script, sha256=sha256)
        return script

    def _hash_script(self, limit: int, pace: Pace) -> Digest:
        self.held.wait(10)
        return Digest(self.key, "d" * 64, of_root=False, keep=True)


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
