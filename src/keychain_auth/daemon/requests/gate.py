"""The gate of the agent socket: from a fresh connection to a session, admitted or refused.

    accept -> limits -> peer -> attest -> match -> audit -> session

A refused connection gets a session too: it answers the first request with the reason, and then closes. Answering at
once would be an answer without a request, and closing on unread input would reset the connection before the client
could read why.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

from keychain_auth.audit.record import AuditRecord
from keychain_auth.daemon.attesting.attestation import Attested, Attestor
from keychain_auth.daemon.requests.approvals import Approvals
from keychain_auth.daemon.requests.bait import RELEASE, Bait
from keychain_auth.daemon.requests.caller import Caller
from keychain_auth.daemon.requests.pipeline import Pipeline
from keychain_auth.daemon.requests.refusals import Refusals, refusal_record
from keychain_auth.daemon.requests.refused_session import RefusedSession, StrangerSession
from keychain_auth.daemon.requests.strangers import Strangers
from keychain_auth.daemon.serving.handler import Handler, Reply, distrust
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.daemon.state.builds_file import BuildsFile
from keychain_auth.daemon.state.pending_file import PendingFile
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.errors import AuditError
from keychain_auth.identity.attest import Refusal
from keychain_auth.model import Denial, Entry, Program
from keychain_auth.platform.base import Channel, Peer, PeerGone
from keychain_auth.policy.canaries import Alarm
from keychain_auth.policy.explain import explain, mend
from keychain_auth.policy.interpreters import is_interpreter
from keychain_auth.reasons import (
    AUDIT_UNAVAILABLE,
    CALLER_CHANGED,
    IDENTITY_NOT_VERIFIED,
    INTERNAL_ERROR,
    MALFORMED_REQUEST,
    PENDING_APPROVAL,
)
from keychain_auth.wire.codec import encode_reason


class Gate:
    """Admits callers. Implements ``serving.server.Gate`` for the agent socket."""

    def __init__(
        self,
        attestor: Attestor,
        policy_file: PolicyFile,
        pending: PendingFile,
        builds: BuildsFile,
        pipelines: Callable[[int], Pipeline],
        turn: Turn,
        refusals: Refusals,
        bait: Bait,
        approvals: Approvals,
    ) -> None:
        """``pipelines``: the pipeline of a user."""
        self._attestor = attestor
        self._policy_file = policy_file
        self._pending = pending
        self._builds = builds
        self._pipelines = pipelines
        self._turn = turn
        self._refusals = refusals
        self._bait = bait
        self._approvals = approvals
        self._strangers = Strangers()
        self._queueing: dict[tuple[Program, Program | None, Program | None], asyncio.Future[None]] = {}
        self.counts: Counter[str] = Counter()

    async def admit(self, channel: Channel) -> Handler:
        """The session of a fresh connection. Raises nothing that the peer could cause."""
        self._policy_file.refresh()
        pid, uid = channel.peer_credentials()
        if (known := self._strangers.recall(pid, self._policy_file.generation)) is not None:
            return self._stranger(known.caller, known.denial, channel)
        try:
            peer = channel.peer()
        except PeerGone as gone:
            return self._refuse(Refusal(IDENTITY_NOT_VERIFIED, str(gone)), pid, uid)
        return await self._judged(peer, channel)

    async def _judged(self, peer: Peer, channel: Channel) -> Handler:
        """The session of a process; whoever may not have one has let go of ``peer`` by then."""
        handler: Handler | None = None
        try:
            handler = await self._verified(peer, channel)
        finally:
            if not (isinstance(handler, Session) or self._strangers.holds(peer)):
                peer.close()
        return handler

    def close(self) -> None:
        """Let go of what is remembered."""
        self._strangers.close()

    def turn_away(self, channel: Channel, reason: str) -> None:
        """Record a connection that is refused before anybody looked who it is."""
        pid, uid = channel.peer_credentials()
        self._refuse(Refusal(reason, "too many connections"), pid, uid)

    def is_known_stranger(self, pid: int) -> bool:
        """See ``serving.server.Gate``."""
        return pid in self._strangers

    async def _verified(self, peer: Peer, channel: Channel) -> Handler:
        generation = self._policy_file.generation
        attested = await self._attestor.attest(peer, self._policy_file.policy)
        if not isinstance(attested, Attested):
            return self._refuse(attested, peer.pid, peer.uid)
        caller = Caller(attested, self._policy_file, self._pending, self._builds)
        session = None
        try:
            session = await self._admitted(peer, channel, caller, generation)
        finally:
            if not isinstance(session, Session):
                caller.close()
        return session

    async def _admitted(self, peer: Peer, channel: Channel, caller: Caller, generation: int) -> Handler:
        entry = caller.entry()
        if not isinstance(entry, Entry):
            refused = self._stranger(caller, entry, channel)
            if entry.entry is None and entry.reason == PENDING_APPROVAL:
                self._strangers.remember(peer, caller, entry, generation)
            return refused
        if (alarm := self._bait.holds(caller.identity)) is not None:
            return self._held(caller, alarm)
        try:
            await caller.remember_build(entry)
            self._turn.record(caller.record("connect", "GRANTED", detail=caller.basis(entry)))
        except OSError as error:
            return self._forgetful(caller, error)
        except AuditError:
            return RefusedSession(AUDIT_UNAVAILABLE)
        self.counts["admitted"] += 1
        return Session(peer, caller, self._pipelines(peer.uid), self, self._turn.looks)

    def _forgetful(self, caller: Caller, error: OSError) -> Handler:
        """Its build cannot be remembered, so an older one could come after it."""
        why = f"builds.json cannot be written: {error.strerror}"
        self._record(caller.record("connect", "ERROR", reason=INTERNAL_ERROR, detail=why), _subject(caller), why)
        return RefusedSession(INTERNAL_ERROR)

    def _stranger(self, caller: Caller, denial: Denial, channel: Channel) -> RefusedSession:
        """Told once it is queued. It does not wait for that in here: it must be able to give way to others."""
        why = explain(denial)
        record = caller.record("connect", "DENIED", reason=denial.reason, detail=why)
        self._record(record, _subject(caller), why, mend(denial))
        if denial.reason != PENDING_APPROVAL:
            return RefusedSession(denial.reason)
        queued = self._queue(caller)
        if caller.identity.script is None and is_interpreter(caller.identity.program.path):
            return RefusedSession(denial.reason, queued)  # nobody could approve that

        judged = partial(self._judged, channel=channel)
        return StrangerSession(denial.reason, queued, channel, caller, self._approvals, judged)

    def _held(self, caller: Caller, alarm: Alarm) -> RefusedSession:
        """It reached for a canary: told what a program without an entry is told, and not put into the queue."""
        why = f"it is held: it reached for a canary at {alarm.when}"
        record = caller.record("connect", "DENIED", reason=PENDING_APPROVAL, detail=why)
        self._record(record, _subject(caller), why, RELEASE)
        return RefusedSession(PENDING_APPROVAL)

    def _queue(self, caller: Caller) -> asyncio.Future[None] | None:
        """What ends when the program is in the pending queue; None if it is there already."""
        if caller.is_queued():
            return None
        behind = None if caller.requester is None else caller.requester.program
        key = caller.identity.program, caller.identity.script, behind
        if (queueing := self._queueing.get(key)) is None:
            queueing = self._queueing[key] = asyncio.ensure_future(caller.queue())
            queueing.add_done_callback(lambda _: self._queueing.pop(key))
        return queueing

    def _refuse(self, refusal: Refusal, pid: int, uid: int) -> Handler:
        self._record(refusal_record("connect", refusal, pid, uid), refusal.path, refusal.why)
        return RefusedSession(refusal.reason)

    def impostor(self, caller: Caller, why: str) -> None:
        """Record that a message was not acted on, because it may not be the verified program's."""
        self._record(caller.record("request", "DENIED", reason=CALLER_CHANGED, detail=why), _subject(caller), why)

    def overlong(self, caller: Caller) -> None:
        """Record a line beyond the limit."""
        why = "a line is longer than the limit"
        self._record(caller.record("request", "ERROR", reason=MALFORMED_REQUEST, detail=why), _subject(caller), why)

    def _record(self, record: AuditRecord, path: str, why: str, mending: str = "") -> None:
        self.counts[record.reason or ""] += 1
        self._strangers.refused(record.pid or 0)
        self._refusals.record(
            record, "refused", reason=record.reason, pid=record.pid, uid=record.uid, path=path, why=why, mend=mending
        )


class Session:
    """An admitted connection. See ``serving.connection.Handler``."""

    admitted = True

    def __init__(self, peer: Peer, caller: Caller, pipeline: Pipeline, gate: Gate, looks: dict[str, str]) -> None:
        """``looks``: what was found about processes in the present turn (see ``Turn.looks``)."""
        self._peer = peer
        self._pid = peer.pid
        # For a script the file is the interpreter: the same file after an exec may be another script.
        script = caller.identity.script is not None
        self._is_unchanged = peer.runs_same_exec if script else peer.runs_same_file
        self._look = f"{script} {peer.look}"
        self._looks = looks
        self._caller = caller
        self._behalf = caller.behalf
        self._gate = gate
        self.respond = partial(pipeline.answer, caller)

    def distrust(self, sender: int | None) -> str:
        """The kernel names the sender of each piece; the program must still be the verified file.

        Connections of one process share the look at it: all that they acted on in this turn was received before.
        """
        if sender != self._pid:
            return distrust(self._pid, sender, self._is_unchanged)
        if self._behalf is not None and not self._behalf.is_same():
            return "who it asks for has ended, or became another program"
        why = self._looks.get(self._look)
        if why is None:
            why = self._looks[self._look] = distrust(self._pid, sender, self._is_unchanged)
        return why

    def impostor(self, why: str) -> Reply:
        """``caller_changed``, and the end."""
        self._gate.impostor(self._caller, why)
        return Reply(encode_reason(CALLER_CHANGED), last=True)

    def unasked(self) -> None:
        """It may take its time."""

    def overlong(self) -> Reply:
        """``malformed_request``, and the end."""
        self._gate.overlong(self._caller)
        return Reply(encode_reason(MALFORMED_REQUEST), last=True)

    def close(self) -> None:
        """Let go of the process."""
        self._peer.close()
        self._caller.close()


def _subject(caller: Caller) -> str:
    return caller.identity.subject.path
