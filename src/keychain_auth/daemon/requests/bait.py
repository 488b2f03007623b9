"""What happens when somebody reaches for a canary: cut off, held, and told as loudly as there are ways.

Contract:
* The answer is that of a program whose entry was taken away: the reason ``unregistered_binary_pending_approval``, and
  the end of the connection; later connections get the same. Nothing in it says "canary". Only the program is not put
  into the queue of those that wait for approval, where somebody might approve it without knowing.
* All-or-nothing, as everywhere: a request that names a canary beside other targets gets none of them.
* The record is a line of its own, action ``canary``, never counted away among other refusals. The journal says it as
  an error, ``status`` until a person releases the program, and the desktop where there is one.

What it does not promise: that an attacker who knows the policy cannot tell. A program that is registered and refused
all the same can conclude that something is going on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from keychain_auth.audit.record import AuditRecord
from keychain_auth.audit.summary import CANARY
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.requests.caller import Caller
from keychain_auth.daemon.requests.refusals import Refusals
from keychain_auth.daemon.serving.handler import Reply
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.daemon.state.canary_watch import CanaryWatch
from keychain_auth.errors import AuditError
from keychain_auth.model import Identity, Item, Request
from keychain_auth.platform.base import Peer
from keychain_auth.platform.parents import starters
from keychain_auth.policy.canaries import Alarm
from keychain_auth.reasons import PENDING_APPROVAL
from keychain_auth.wire.codec import encode_reason

RELEASE = "keychain-auth canary release PROGRAM"


class Bait:
    """Looks at requests as long as there is something to look for."""

    def __init__(
        self,
        watch: CanaryWatch,
        turn: Turn,
        refusals: Refusals,
        journal: Journal,
        tell: Callable[[str, str], None],
    ) -> None:
        """``tell``: shows a person a title and a text, if there is a way to."""
        self.watch = watch
        self._turn = turn
        self._refusals = refusals
        self._journal = journal
        self._tell = tell

    def holds(self, identity: Identity) -> Alarm | None:
        """Why the program is held; None if it is not."""
        return self.watch.canaries.holds(identity.subject, identity.uid) if self.watch.watching else None

    def caught(self, caller: Caller, request: Request) -> Reply | None:
        """The answer to a request that names a canary, or comes from who is held; None for all others.

        Whatever the policy says of the request: a program that knows the name of a canary has no good reason to.
        """
        alarm = self.holds(caller.identity)
        if alarm is not None:
            return self._held(caller, request, alarm)
        target = self.watch.canaries.touched(request)
        return self._fire(caller, request, target) if target else None

    def among(self, caller: Caller, request: Request, found: Sequence[Item]) -> Reply | None:
        """The same for what a prefix brought to light."""
        target = self.watch.canaries.found(request, found)
        return self._fire(caller, request, target) if target else None

    def among_names(self, service: str, names: Sequence[str]) -> list[str]:
        """Which of ``names`` are canaries. Nothing fires."""
        canaries = self.watch.canaries.names.get(service, frozenset())
        return [name for name in names if name in canaries]

    def by_command(self, service: str, names: Sequence[str], command: str, peer: Peer, path: str) -> list[str]:
        """Which of ``names`` are canaries, told like any other alarm: a person's command reached for them.

        What runs the command is an interpreter, so nobody is held.
        """
        touched = self.among_names(service, names)
        if touched:
            chain = (f"{one.executable or one.name or '?'} ({one.pid})" for one in starters(peer.pid))
            started = " < ".join(chain)
            detail = f"keychain-auth {command} reached for a canary; started by {started or 'nobody we can see'}"
            record = AuditRecord(
                action=CANARY, pid=peer.pid, uid=peer.uid, binary_path=path, binary_hash=None, service=service,
                targets=touched, result="DENIED", reason="", detail=detail[:500],
            )  # fmt: skip
            self._report(record, path, service, touched[0])
        return touched

    def _fire(self, caller: Caller, request: Request, target: str) -> Reply:
        subject = caller.identity.subject
        self.watch.catch(caller.identity, request.service, target)
        detail = f"{request.match} {request.action} of a canary: the program is held until it is released"
        record = caller.record(CANARY, "DENIED", request.service, (target,), PENDING_APPROVAL, detail)
        self._report(record, subject.path, request.service, target)
        return Reply(encode_reason(PENDING_APPROVAL), last=True)

    def _held(self, caller: Caller, request: Request, alarm: Alarm) -> Reply:
        why = f"it is held: it reached for a canary at {alarm.when}"
        self._refusals.record(
            caller.record(request.action, "DENIED", request.service, (), PENDING_APPROVAL, why),
            "held", reason=PENDING_APPROVAL, pid=caller.identity.pid, why=why, mend=RELEASE,
        )  # fmt: skip
        return Reply(encode_reason(PENDING_APPROVAL), last=True)

    def _report(self, record: AuditRecord, path: str, service: str, target: str) -> None:
        self._journal.error("CANARY", path=path, pid=record.pid, service=service, target=target, mend=RELEASE)
        with contextlib.suppress(AuditError):  # nothing is given out, so it is told even if it cannot be recorded
            self._turn.record(record, sync=True)
        self._tell("keychain-auth: a canary was touched", f"{path} reached for {service} {target}.")
