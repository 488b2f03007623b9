"""Who is on the other end: gathers the facts, has them judged, hashes what must be hashed.

The judging itself is in ``identity.attest``. Here is the order of the looks: a first look at the peer, whatever takes
time, and then a second look that must show the same process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec

from keychain_auth.daemon.hasher import Hasher
from keychain_auth.identity import attest
from keychain_auth.identity.attest import IDENTITY_NOT_VERIFIED, Refusal
from keychain_auth.identity.facts import HostFacts, PeerFacts
from keychain_auth.model import Identity
from keychain_auth.platform.base import FileTooLarge, NeedsThread, Peer, PeerGone
from keychain_auth.policy.interpreters import declared_script, is_interpreter
from keychain_auth.policy.parse import Policy

T = TypeVar("T")


class Attested(NamedTuple):
    """An identity, and the command line that came with it (a claim, for the pending queue)."""

    identity: Identity
    command_line: tuple[str, ...]


class Attestor:
    """Turns a peer into an identity."""

    def __init__(self, host: HostFacts, hasher: Hasher, hash_limit: int) -> None:
        self._host = host
        self._hasher = hasher
        self._hash_limit = hash_limit

    async def attest(self, peer: Peer, policy: Policy) -> Attested | Refusal:
        """The peer's identity, or why it has none. Never waits when the program is native and its hash is known."""
        if (refusal := attest.judge_user(peer.uid, self._host)) is not None:
            return refusal
        try:
            facts = await self._facts(peer)
            if (refusal := attest.judge(facts, self._host)) is not None:
                return msgspec.structs.replace(refusal, path=facts.executable.path)
            if is_interpreter(facts.executable.path):
                return await self._script(peer, facts, policy)
            return await self._native(peer, facts, policy)
        except PeerGone as gone:
            return Refusal(IDENTITY_NOT_VERIFIED, str(gone))
        except FileTooLarge as large:
            return Refusal(IDENTITY_NOT_VERIFIED, f"its file is too large to verify: {large}")
        except OSError as error:
            return Refusal(IDENTITY_NOT_VERIFIED, f"its file cannot be read: {error.strerror}")

    async def _native(self, peer: Peer, facts: PeerFacts, policy: Policy) -> Attested | Refusal:
        key = facts.executable.key
        sha256 = self._hasher.remembered(key)
        if sha256 is None:
            pool = self._pool(facts.executable.path in policy.by_path)
            sha256 = await self._hasher.program(peer, key, pool)
            if (refusal := await self._second_look(peer, facts)) is not None:
                return refusal
        identity = attest.native(facts, sha256)
        if (identity.program.path, sha256) in policy.by_program:
            return Attested(identity, ())
        # In a thread: the pages of a command line are its process's own, and can lie on a mapping that never answers.
        return Attested(identity, await self._in_thread(self._hasher.strangers, peer.command_line))

    async def _script(self, peer: Peer, facts: PeerFacts, policy: Policy) -> Attested | Refusal:
        """An interpreter: what it runs is what counts. Its command line is read once, and is only a claim."""
        pool = self._pool(facts.executable.path in policy.interpreters)
        arguments = await self._in_thread(pool, peer.command_line)
        sha256 = await self._hasher.program(peer, facts.executable.key, pool)
        word = declared_script(facts.executable.path, arguments)
        script = None
        if word is not None:
            script = await self._in_thread(pool, partial(peer.script, word, self._hash_limit))
        if (refusal := await self._second_look(peer, facts)) is not None:
            return refusal
        if script is None:
            return Attested(attest.native(facts, sha256), arguments)
        identity = attest.declared(facts, sha256, script, self._host)
        return identity if isinstance(identity, Refusal) else Attested(identity, arguments)

    async def _second_look(self, peer: Peer, first: PeerFacts) -> Refusal | None:
        second = await self._facts(peer)
        return attest.judge(second, self._host) or attest.same_process(first, second)

    async def _facts(self, peer: Peer) -> PeerFacts:
        try:
            return peer.facts()
        except NeedsThread:
            return await self._in_thread(self._hasher.strangers, partial(peer.facts, patient=True))

    @staticmethod
    async def _in_thread(pool: ThreadPoolExecutor, look: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, look)

    def _pool(self, registered: bool) -> ThreadPoolExecutor:
        return self._hasher.registered if registered else self._hasher.strangers
