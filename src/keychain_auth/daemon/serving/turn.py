"""One turn of the loop: what all requests of the turn have in common is done once.

    receive from every connection that is ready
    one look at the policy file, one look at each process that sent something
    the requests, one write of the audit log, the answers

Why: the looks and the write are system calls of 1 to 3 µs each, a third of a request's whole cost. The order that
matters is kept: whatever a request is judged by was looked at after its bytes were in the daemon's hands, and an answer
leaves only after its record is written. If the records cannot be written, every answer of the turn becomes
``audit_unavailable``, and nothing is given out.

A change (write, delete) is recorded before it is made, so its record does not wait for the end of the turn:
``record_now``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from keychain_auth.audit.record import AuditRecord
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.locking.late_audit import LateAudit
from keychain_auth.errors import AuditError
from keychain_auth.reasons import AUDIT_UNAVAILABLE
from keychain_auth.wire.codec import encode_reason


class Participant(Protocol):
    """Who takes part in turns: a connection."""

    def act(self, data: bytes, sender: int | None) -> None:
        """Do what ``data`` asks for; ``sender`` is the pid that the kernel says it came from."""

    def give_up(self, fault: BaseException) -> None:
        """A fault of ours ends it, and nobody else."""

    def transmit(self, lines: list[bytes]) -> None:
        """Send these answers, if there are any."""


class Turn:
    """Gathers the input, the records and the answers of one turn.

    ``received``: who got what, and the pid that the kernel says it came from; they act when all have received.
    ``answers``: what is transmitted at the end of the turn, by participant. Both lists stay the same ones for ever, so
    that participants can keep their ``append``: a call of ours for each would be 2 % of a request.
    ``waits``: set by whose answer has to wait.
    ``looks`` holds what looks at processes found in this turn, by process: connections of one process share it. It is
    empty when the first of them acts, so no look is older than the bytes that it vouches for.
    """

    def __init__(self, audit: LateAudit, journal: Journal, refresh_policy: Callable[[], None]) -> None:
        self._audit = audit
        self._journal = journal
        self._refresh_policy = refresh_policy
        self._under_way = False
        self._records: list[AuditRecord | bytes] = []
        self._sync = False
        self._unwritable = False
        self.received: list[tuple[Participant, bytes, int | None]] = []
        self.answers: list[tuple[Participant, list[bytes]]] = []
        self.looks: dict[str, str] = {}
        self.waits = False

    def serve(self, ready: Iterable[Callable[[], None]]) -> bool:
        """A turn of the connections whose ``ready`` callbacks are given: each receives, and says so in ``received``.

        False if an answer has to wait for something, most likely for another thread.
        """
        self.waits = False
        for receive in ready:
            receive()
        if self.received:
            self.run(self._act)
        return not self.waits

    def _act(self) -> None:
        self.looks.clear()
        try:
            for participant, data, sender in self.received:
                try:
                    participant.act(data, sender)
                except Exception as fault:  # noqa: BLE001 - the others' bytes are received: they must be answered
                    participant.give_up(fault)
        finally:
            self.received.clear()

    def run(self, work: Callable[[], None]) -> None:
        """Do ``work`` as a turn, or as part of the one that is under way."""
        if self._under_way:
            work()
            return
        self._under_way = True
        try:
            self._refresh_policy()
            work()
        finally:
            self._under_way = False
            self._settle()
            try:
                for participant, lines in self.answers:
                    participant.transmit(lines)
            finally:
                self.answers.clear()

    def answers_of(self, participant: Participant) -> list[bytes]:
        """Where ``participant`` puts its answers as they are made; they are transmitted at the end of the turn."""
        lines: list[bytes] = []
        self.answers.append((participant, lines))
        return lines

    def record(self, record: AuditRecord | bytes, *, sync: bool = False) -> None:
        """Written before the answers of this turn leave. ``sync``: it should soon be on the disk for sure.

        ``record``: also one that a ``Template`` has encoded. Outside of a turn it is written at once. Raises AuditError
        then, and only then.
        """
        self._records.append(record)
        if sync:
            self._sync = True
        if not self._under_way and not self._settle():
            raise AuditError("the audit log cannot be written")

    def record_now(self, record: AuditRecord | bytes) -> None:
        """Written when this returns, and everything before it. Raises AuditError: then nothing may be changed."""
        self._records.append(record)
        self._sync = True
        if not self._settle():
            raise AuditError("the audit log cannot be written")

    def _settle(self) -> bool:
        """Write what was recorded. If that fails, take back the answers that rest on it."""
        if not self._records:
            return True
        records, self._records = self._records, []
        sync, self._sync = self._sync, False
        try:
            self._audit.append(records, sync=sync)
        except AuditError as error:
            if not self._unwritable:  # said once, not for each turn: the disk of the journal may be the same
                self._journal.error("the audit log cannot be written: nothing is given out", why=error)
            self._unwritable = True
            unavailable = encode_reason(AUDIT_UNAVAILABLE)
            for _, lines in self.answers:
                lines[:] = [unavailable] * len(lines)
            return False
        if self._unwritable:
            self._unwritable = False
            self._journal.info("the audit log can be written again")
        return True
