"""Who is on the other end: gathers the facts, has them judged, hashes what must be hashed.

The judging itself is in ``identity.attest``. Here is the order of the looks: a first look at the peer, whatever takes
time, and then a second look that must show the same process.

Whatever takes time is done in a thread, has a deadline (``limits.verify_seconds`` in all), and strangers wait for
strangers. What makes a stranger is the path: of the program, or of the script that an interpreter runs, so that
``python3 evil.py`` does not hold up the script that is registered.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec

from keychain_auth.daemon.attesting.behalf import Behalf, Behind
from keychain_auth.daemon.attesting.hasher import Hasher
from keychain_auth.daemon.attesting.launches import Launched, Launches, Watch
from keychain_auth.daemon.attesting.verified import Verified
from keychain_auth.daemon.attesting.waiting_room import RoomFull, WaitingRoom
from keychain_auth.daemon.attesting.workers import Overdue, Workers
from keychain_auth.daemon.shares import Shares
from keychain_auth.identity import attest
from keychain_auth.identity.attest import Refusal
from keychain_auth.identity.facts import HostFacts, MappedFile, PeerFacts
from keychain_auth.model import Denial, Entry, Identity, Program
from keychain_auth.platform.base import Digest, FileTooLarge, NeedsThread, Peer, PeerGone, Script
from keychain_auth.policy.interpreters import declared_script, is_interpreter
from keychain_auth.policy.match import match, registered_entry
from keychain_auth.policy.parse import Policy
from keychain_auth.reasons import IDENTITY_NOT_VERIFIED, PENDING_APPROVAL, RATE_LIMITED, SOCKET_NOT_CLOEXEC
from keychain_auth.wire.messages import Limits

T = TypeVar("T")


# Close-on-exec proves nothing where a script takes descriptors out of messages: somebody may have kept it for that.
_OLDER = Refusal(SOCKET_NOT_CLOEXEC, "it was launched after that connection was made, by another program")


class Attested(NamedTuple):
    """An identity, and the command line that came with it (a claim, for the pending queue).

    ``behalf``: who stands behind it, where its entry asks; to be closed.
    """

    identity: Identity
    command_line: tuple[str, ...]
    behalf: Behalf | None = None


class Attestor:
    """Turns a peer into an identity. ``looks``: threads for looks at a process, which are short unless it wants to be
    waited for. ``strict``: the looks of strict mode for every program, whatever its entry says. ``launches``: the
    scripts that were looked at before they ran. ``shares``: what each user may have of it."""

    def __init__(
        self, host: HostFacts, hasher: Hasher, looks: Workers, limits: Limits, *, strict: bool,
        launches: Launches | None = None, shares: Shares | None = None,
    ) -> None:  # fmt: skip
        shares = shares or Shares()
        self._launches = Launches() if launches is None else launches
        self._strict = strict
        self._host = host
        self._hasher = hasher
        self._looks = looks
        self._seconds = limits.verify_seconds
        self._verified = Verified()
        self._behind = Behind(host, hasher)
        # Nobody knows yet whether these are strangers; a look takes no time, unless somebody keeps it waiting.
        self._unknown = WaitingRoom(max(1, limits.connections // 2), limits.connections_per_process, shares.looks)
        places = min(limits.verifying, max(1, limits.connections // 4))
        self._strangers = WaitingRoom(places, limits.verifying_per_process, shares.verifying)

    async def attest(self, peer: Peer, policy: Policy) -> Attested | Refusal:
        """The peer's identity, or why it has none. Never waits when the program is native and its hash is known."""
        if (refusal := attest.judge_user(peer.uid, self._host)) is not None:
            return refusal
        try:
            until = time.monotonic() + self._seconds
            attested = await self._attest(peer, policy, until)
            if not isinstance(attested, Attested) or not policy.asks_on_behalf:
                return attested
            return await self._behalf(peer, attested, policy, until)
        except PeerGone as gone:
            return Refusal(IDENTITY_NOT_VERIFIED, str(gone))
        except FileTooLarge as large:
            return Refusal(IDENTITY_NOT_VERIFIED, f"its file is too large to verify: {large}")
        except OSError as error:
            return Refusal(IDENTITY_NOT_VERIFIED, f"its file cannot be read: {error.strerror}")
        except Overdue:
            return Refusal(IDENTITY_NOT_VERIFIED, f"it could not be verified within {self._seconds:g} seconds")
        except RoomFull as full:
            return Refusal(RATE_LIMITED, str(full))

    async def _attest(self, peer: Peer, policy: Policy, until: float) -> Attested | Refusal:
        facts = await self._facts(peer, until)
        if (refusal := attest.judge(facts, self._host)) is not None:
            return msgspec.structs.replace(refusal, path=facts.executable.path)
        launched = self._launches.find(peer.pid, facts.exec_id)
        if launched is not None:
            return await self._launched(peer, facts, launched, policy, until)
        if is_interpreter(facts.executable.path):
            return await self._script(peer, facts, policy, until)
        return await self._native(peer, facts, policy, until)

    async def _behalf(self, peer: Peer, attested: Attested, policy: Policy, until: float) -> Attested:
        """Who stands behind it, where its entry asks. A command line comes with it, for the queue."""
        entry = registered_entry(policy, attested.identity, now=time.time())
        if isinstance(entry, Denial) or entry.on_behalf_of is None:
            return attested

        async def look(what: Callable[[], T], /) -> T:
            return await self._look(peer, what, until)

        behalf = await self._behind.behalf(peer, look, until)
        try:
            line = attested.command_line or await self._look(peer, peer.command_line, until)
        except BaseException:
            behalf.close()
            raise
        return Attested(attested.identity, line, behalf)

    async def _native(self, peer: Peer, facts: PeerFacts, policy: Policy, until: float) -> Attested | Refusal:
        key = facts.executable.key
        registered = facts.executable.path in policy.by_path
        keys = frozenset(policy.signers)
        digest = self._hasher.remembered(key, keys)
        libraries = frozenset[Program]()
        if digest is None or facts.code.files:
            with self._waiting(peer, registered):
                make, left = partial(peer.hash_program, keys=keys), until - time.monotonic()
                digest = await self._hasher.digest(key, make, registered, left, keys, peer.is_connected)
                libraries = await self._libraries(peer, facts, self._entry(policy, facts, digest), until)
            if (refusal := await self._second_look(peer, facts, until)) is not None:
                return refusal
        identity = self._identity(facts, digest, libraries)
        if not self._verified.holds(identity, facts):
            return attest.REPLACED
        entry = match(policy, identity, now=time.time())
        self._verified.note(facts, identity, entry)
        if not isinstance(entry, Entry) and entry.reason == PENDING_APPROVAL:
            # In a thread: a command line lies in its process's own pages, which can be mapped from what never answers.
            return Attested(identity, await self._look(peer, peer.command_line, until))
        return await self._strictly(peer, facts, entry, until) or Attested(identity, ())

    def _identity(self, facts: PeerFacts, digest: Digest, libraries: frozenset[Program] = frozenset()) -> Identity:
        return attest.native(
            facts,
            digest.sha256,
            self._host,
            of_root=digest.of_root or self._verified.was_of_root(facts),
            libraries=libraries,
            signature=digest.signature,
            publisher=digest.publisher,
            certificate=digest.certificate,
        )

    def _entry(self, policy: Policy, facts: PeerFacts, digest: Digest) -> Entry | None:
        """The entry of a program of which it is not known yet what it has loaded."""
        entry = registered_entry(policy, self._identity(facts, digest), now=time.time())
        return entry if isinstance(entry, Entry) else None

    async def _libraries(self, peer: Peer, facts: PeerFacts, entry: Entry | None, until: float) -> frozenset[Program]:
        """What it has loaded that root did not install. Where the entry cannot have listed it all, names are enough."""
        files = facts.code.files
        if entry is None or len(entry.libraries) < len(files):
            return frozenset(Program(file.path, "") for file in files)
        return frozenset([await self._library(peer, file, until) for file in files])

    async def _library(self, peer: Peer, file: MappedFile, until: float) -> Program:
        opened = await self._look(peer, partial(peer.open_library, file), until)
        if opened is None:
            return Program(file.path, "")
        with contextlib.closing(opened):
            digest = await self._hasher.digest(opened.key, opened.hash, True, until - time.monotonic())
        return Program(file.path, digest.sha256)

    async def _strictly(self, peer: Peer, facts: PeerFacts, entry: Entry | Denial, until: float) -> Refusal | None:
        """The looks of strict mode, where the entry or the settings ask for them."""
        if not isinstance(entry, Entry) or not (self._strict or entry.strict):
            return None
        strict_facts = await self._look(peer, peer.strict_facts, until)
        return attest.judge_strict(strict_facts) or await self._second_look(peer, facts, until)

    async def _launched(
        self, peer: Peer, facts: PeerFacts, launched: Launched, policy: Policy, until: float
    ) -> Attested | Refusal:
        """A script that this daemon saw before its first instruction: what was looked at then still holds."""
        if not launched.before.isdisjoint(facts.sockets):
            return _OLDER
        watch = launched.watch
        changed = () if watch is None else await self._look(peer, watch.changed, until)
        if changed:
            why = f"since it was launched this has changed: {', '.join(changed)}: launch it anew"
            return Refusal(IDENTITY_NOT_VERIFIED, why, launched.script.path)
        libraries = frozenset([file async for file in self._unverified(peer, facts, watch, until)])
        waited = watch is not None or facts.code.files
        if waited and (refusal := await self._second_look(peer, facts, until)) is not None:
            return refusal
        identity = attest.launched(
            facts, launched.interpreter, launched.script, launched.launch, self._host, libraries=libraries
        )
        found = match(policy, identity)
        if isinstance(found, Denial) and found.reason == PENDING_APPROVAL:
            return Attested(identity, await self._look(peer, peer.command_line, until))
        return await self._strictly(peer, facts, found, until) or Attested(identity, ())

    async def _unverified(
        self, peer: Peer, facts: PeerFacts, watch: Watch | None, until: float
    ) -> AsyncIterator[Program]:
        """What a launched script has loaded that is neither root's nor was verified with it."""
        for file in facts.code.files:
            opened = await self._look(peer, partial(peer.open_library, file), until)
            if opened is None:
                yield Program(file.path, "")
                continue
            with contextlib.closing(opened):
                if watch is None or not watch.has(opened.facts.path, opened.key):
                    digest = await self._hasher.digest(opened.key, opened.hash, True, until - time.monotonic())
                    yield Program(file.path, digest.sha256)

    async def _script(self, peer: Peer, facts: PeerFacts, policy: Policy, until: float) -> Attested | Refusal:
        """An interpreter: what it runs is what counts. Its command line is read once, and is only a claim."""
        arguments = await self._look(peer, peer.command_line, until)
        word = declared_script(facts.executable.path, arguments)
        script = None
        if word is not None:
            script = await self._look(peer, partial(peer.open_script, word), until)
        with contextlib.closing(script) if script is not None else contextlib.nullcontext():
            return await self._interpreted(peer, facts, policy, until, arguments, script)

    async def _interpreted(
        self, peer: Peer, facts: PeerFacts, policy: Policy, until: float, arguments: tuple[str, ...],
        script: Script | None,
    ) -> Attested | Refusal:  # fmt: skip
        if script is not None and (refusal := attest.judge_script(script.facts, self._host)) is not None:
            return refusal
        registered = script is not None and script.facts.path in policy.by_path
        known = facts.executable.path in policy.interpreters
        with self._waiting(
            peer, registered or (script is not None and self._hasher.remembered(script.key) is not None)
        ):
            key, left = facts.executable.key, until - time.monotonic()
            digest = await self._hasher.digest(key, peer.hash_program, known, left)
            content = ""
            if script is not None:
                left = until - time.monotonic()
                hashed = await self._hasher.digest(script.key, script.hash, registered, left, (), peer.is_connected)
                content = hashed.sha256
        if (refusal := await self._second_look(peer, facts, until)) is not None:
            return refusal
        if script is None:
            return Attested(self._identity(facts, digest), arguments)
        identity = attest.declared(facts, digest.sha256, script.hashed(content), self._host)
        if isinstance(identity, Refusal):
            return identity
        return await self._strictly(peer, facts, match(policy, identity), until) or Attested(identity, arguments)

    async def _second_look(self, peer: Peer, first: PeerFacts, until: float) -> Refusal | None:
        second = await self._facts(peer, until)
        return attest.judge(second, self._host) or attest.same_process(first, second)

    async def _facts(self, peer: Peer, until: float) -> PeerFacts:
        try:
            facts = peer.facts()
        except NeedsThread:
            facts = await self._look(peer, partial(peer.facts, patient=True), until)
        return attest.retired(facts, self._verified.programs)

    async def _look(self, peer: Peer, look: Callable[[], T], until: float) -> T:
        """In a thread, because the process decides how long it takes. Raises Overdue, RoomFull."""
        with self._unknown.place(peer.pid, peer.uid):
            return await self._looks.run(look, until - time.monotonic(), owner=peer.uid)

    def _waiting(self, peer: Peer, registered: bool) -> contextlib.AbstractContextManager[None]:
        """A place for what takes long. Raises RoomFull."""
        return contextlib.nullcontext() if registered else self._strangers.place(peer.pid, peer.uid)
