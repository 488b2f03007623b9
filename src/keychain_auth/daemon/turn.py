"""One turn of the loop: what all requests of the turn have in common is done once.

    one look at the policy file, the requests of every connection that is ready, one write of the audit log, the answers

Why: the look and the write are system calls of 1 to 2 µs each, a fifth of a request's whole cost. The order that
matters is kept: an answer leaves only after its record is written. If the records cannot be written, every answer of
the turn becomes ``audit_unavailable``, and nothing is given out.

A change (write, delete) is recorded before it is made, so its record does not wait for the end of the turn:
``record_now``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.record import AuditRecord
from keychain_auth.daemon.journal import Journal
from keychain_auth.errors import AuditError
from keychain_auth.wire.codec import encode_reason
from keychain_auth.wire.messages import AUDIT_UNAVAILABLE


class Receiver(Protocol):
    """Who takes the answers of a turn."""

    def transmit(self, lines: list[bytes]) -> None:
        """Send these answers, if there are any."""


class Turn:
    """Gathers the records and the answers of one turn."""

    def __init__(self, audit: AuditLog, journal: Journal, refresh_policy: Callable[[], None]) -> None:
        self._audit = audit
        self._journal = journal
        self._refresh_policy = refresh_policy
        self._under_way = False
        self._records: list[AuditRecord] = []
        self._sync = False
        self._answers: list[tuple[Receiver, list[bytes]]] = []

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
            answers, self._answers = self._answers, []
            for receiver, lines in answers:
                receiver.transmit(lines)

    def answers_of(self, receiver: Receiver) -> list[bytes]:
        """Where ``receiver`` puts its answers as they are made; they are transmitted at the end of the turn."""
        lines: list[bytes] = []
        self._answers.append((receiver, lines))
        return lines

    def record(self, record: AuditRecord, *, sync: bool = False) -> None:
        """Written before the answers of this turn leave. ``sync``: it should soon be on the disk for sure.

        Outside of a turn it is written at once. Raises AuditError then, and only then.
        """
        self._records.append(record)
        self._sync = self._sync or sync
        if not self._under_way and not self._settle():
            raise AuditError("the audit log cannot be written")

    def record_now(self, record: AuditRecord) -> None:
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
            self._journal.error("the audit log cannot be written: nothing is given out", why=error)
            unavailable = encode_reason(AUDIT_UNAVAILABLE)
            for _, lines in self._answers:
                lines[:] = [unavailable] * len(lines)
            return False
        return True
