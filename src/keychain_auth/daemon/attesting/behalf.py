"""Who stands behind a helper: its parents are pinned, up to the first that is no shell, and that one is identified.

Contract: every link of the chain is pinned when it is found, and looked at again with each message of the helper
(``is_same``): the helper's parent is still its parent, and the requester still runs what was seen. What the requester
may have is not decided here (``policy.behalf``).

All of it is done in threads, because these processes decide how long a look at them takes, and only for entries that
ask who stands behind.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from keychain_auth.daemon.attesting.hasher import Hasher
from keychain_auth.identity.behalf import judge_ancestor
from keychain_auth.identity.facts import AncestorFacts, HostFacts
from keychain_auth.model import Program, Requester
from keychain_auth.platform.base import Ancestor, FileTooLarge, Peer, PeerGone
from keychain_auth.policy.behalf import carries, problem_of
from keychain_auth.policy.interpreters import declared_script, is_interpreter

T = TypeVar("T")


class Look(Protocol):
    """Runs a look in a thread. Raises Overdue, RoomFull, and what the look raises."""

    async def __call__(self, look: Callable[[], T], /) -> T: ...


_MOST = 16
"""Parents that are looked at: shells that start shells do not go on for ever."""


class Behalf:
    """A requester and the processes up to it; ``requester`` is None if there is nobody."""

    def __init__(self, chain: list[Ancestor], requester: Requester | None) -> None:
        self._chain = chain
        self.requester = requester

    def is_same(self) -> bool:
        """Do these processes still stand behind the helper as they did?"""
        if self.requester is None:
            return True
        return all(each.is_parent() for each in self._chain) and self._chain[-1].runs_same_exec() is True

    def close(self) -> None:
        """Let go of them. May be called twice."""
        for each in self._chain:
            each.close()


class Behind:
    """Finds out who stands behind a peer."""

    def __init__(self, host: HostFacts, hasher: Hasher) -> None:
        self._host = host
        self._hasher = hasher

    async def behalf(self, peer: Peer, look: Look, until: float) -> Behalf:
        """Who stands behind ``peer``, until the moment ``until``. Raises PeerGone, Overdue, RoomFull, OSError,
        FileTooLarge."""
        chain: list[Ancestor] = []
        try:
            requester = await self._requester(peer, chain, look, until)
        except BaseException:
            Behalf(chain, None).close()
            raise
        return Behalf(chain, requester)

    async def _requester(self, peer: Peer, chain: list[Ancestor], look: Look, until: float) -> Requester | None:
        above = await look(peer.parent)
        seen: list[str] = []
        while above is not None and len(chain) < _MOST:
            chain.append(above)
            try:
                facts = await look(above.facts)
            except PeerGone as gone:
                return Requester(Program(f"process {above.pid}", ""), problem=str(gone))
            seen.append(facts.executable.path)
            if not carries(facts.executable.path):
                requester = await self._identified(above, facts, peer.uid, look, until)
                return msgspec.structs.replace(requester, chain=tuple(seen))
            above = await look(above.parent)
        return None

    async def _identified(self, found: Ancestor, facts: AncestorFacts, uid: int, look: Look, until: float) -> Requester:
        path = facts.executable.path
        interpreter = is_interpreter(path)
        problem = judge_ancestor(facts, self._host, uid=uid, interpreter=interpreter)
        try:
            digest = await self._hasher.digest(
                facts.executable.key, found.hash_program, False, until - time.monotonic()
            )
        except (PeerGone, FileTooLarge, OSError) as error:
            return Requester(Program(path, ""), problem=problem or f"it cannot be read: {error}")
        program = Program(path, digest.sha256)
        if not interpreter:
            return Requester(program, of_root=digest.of_root, problem=problem or problem_of(path, script=False))
        script, of_root = await self._script(found, path, look, until)
        if script is None:
            return Requester(program, problem=problem or problem_of(path, script=False))
        return Requester(script, program, of_root and digest.of_root, problem or problem_of(path, script=True))

    async def _script(self, found: Ancestor, path: str, look: Look, until: float) -> tuple[Program | None, bool]:
        """The script that its command line declares, and whether only root could replace it."""
        word = declared_script(path, await look(found.command_line))
        opened = None if word is None else await look(lambda: found.open_script(word))
        if opened is None:
            return None, False
        with contextlib.closing(opened):
            if opened.facts.filesystem not in self._host.filesystems or opened.facts.writable_by_others:
                return None, False
            digest = await self._hasher.digest(opened.key, opened.hash, False, until - time.monotonic())
        return Program(opened.facts.path, digest.sha256), digest.of_root
