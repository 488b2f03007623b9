"""Hashing and the second look, with a peer whose every fact the test decides."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import pytest

from keychain_auth.daemon.attestation import Attested, Attestor
from keychain_auth.daemon.hasher import Hasher
from keychain_auth.identity.attest import LOCAL_FILESYSTEMS, Refusal
from keychain_auth.identity.facts import ExecId, FileFacts, FileKey, HostFacts, Namespaces, PeerFacts
from keychain_auth.platform.base import Digest, PeerGone
from keychain_auth.policy.parse import EMPTY

T = TypeVar("T")
KEY = FileKey(device=5, inode=6, size=7, mtime_ns=8, ctime_ns=9)
OURS = Namespaces(1, 2, 3)
FACTS = PeerFacts(
    pid=10, uid=1000, namespaces=OURS, executable=FileFacts("/usr/bin/tool", KEY, "ext4"), at_path=(5, 6),
    holds_socket=True, inheritable=False, exec_id=ExecId(11, (12,)), seccomp_filters=0, steady=True,
)  # fmt: skip
HOST = HostFacts(1000, OURS, LOCAL_FILESYSTEMS)


class ScriptedPeer:
    """``looks`` are what each look at it shows; the last one stays."""

    pid, uid = 10, 1000

    def __init__(self, *looks: PeerFacts, digest: Digest | None = None) -> None:
        self._looks = list(looks) or [FACTS]
        self._digest = digest or Digest(KEY, "a" * 64, keep=True)
        self.hashed = 0
        self.go = threading.Event()
        self.go.set()

    def facts(self, *, patient: bool = False) -> PeerFacts:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def hash_program(self, limit: int) -> Digest:
        self.go.wait(10)
        self.hashed += 1
        return self._digest

    def command_line(self) -> tuple[str, ...]:
        return ("tool",)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def attested(hasher: Hasher, peer: Any) -> Attested | Refusal:
    return await Attestor(HOST, hasher, 1000).attest(peer, EMPTY)


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
        peer = ScriptedPeer(digest=Digest(KEY, "a" * 64, keep=keep))
        for _ in range(2):
            assert isinstance(await attested(hasher, peer), Attested)
        hasher.close()
        return peer.hashed

    assert run(twice(True)) == 1
    assert run(twice(False)) == 2


def test_a_file_that_is_another_after_hashing_is_refused() -> None:
    async def hash_it() -> None:
        hasher = Hasher(1000)
        other: Any = ScriptedPeer(digest=Digest(msgspec.structs.replace(KEY, ctime_ns=10), "a" * 64, keep=True))
        try:
            with pytest.raises(PeerGone, match="changed while it was hashed"):
                await hasher.program(other, KEY, hasher.registered)
        finally:
            hasher.close()

    run(hash_it())


def test_many_connections_of_one_program_are_one_hash() -> None:
    async def crowd() -> int:
        hasher = Hasher(1000)
        peer = ScriptedPeer(digest=Digest(KEY, "a" * 64, keep=False))
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
        waiting = asyncio.ensure_future(hasher.program(slow, KEY, hasher.strangers))
        await asyncio.sleep(0)
        other = msgspec.structs.replace(KEY, inode=99)
        quick: Any = ScriptedPeer(digest=Digest(other, "b" * 64, keep=True))
        assert await asyncio.wait_for(hasher.program(quick, other, hasher.registered), 5) == "b" * 64
        assert not waiting.done()
        slow.go.set()
        assert await waiting == "a" * 64
        hasher.close()

    run(beside())
