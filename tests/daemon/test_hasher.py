"""Hashing: what is remembered, what is read once for many, and who waits; every fact is the test's."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from daemon.peers import FACTS, KEY, ScriptedPeer, SignedPeer, attested, run, trusting
from keychain_auth.daemon.attesting.attestation import Attested
from keychain_auth.daemon.attesting.hasher import Hasher
from keychain_auth.daemon.attesting.workers import Overdue
from keychain_auth.identity.attest import Refusal
from keychain_auth.identity.facts import FileFacts
from keychain_auth.model import Signature
from keychain_auth.platform.base import Digest, PeerGone


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
