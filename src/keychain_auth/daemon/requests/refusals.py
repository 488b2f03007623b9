"""Refusals on their way into the audit log and the journal: each kind at once, repeated ones as a count.

The rules are in ``audit.coalesce``. A refusal gives nothing out, so it is told even if it cannot be recorded.
"""

from __future__ import annotations

import contextlib
import time

from keychain_auth.audit.coalesce import Coalescer
from keychain_auth.audit.record import AuditRecord
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.daemon.settings import AuditSettings
from keychain_auth.errors import AuditError
from keychain_auth.identity.attest import Refusal


def refusal_record(action: str, refusal: Refusal, pid: int, uid: int, path: str = "") -> AuditRecord:
    """The record of a caller whose identity is not known; ``path`` is where its executable seemed to be."""
    return AuditRecord(
        action=action,
        pid=pid,
        uid=uid,
        binary_path=path or refusal.path or None,
        binary_hash=None,
        service=None,
        targets=(),
        result="DENIED",
        reason=refusal.reason,
        detail=refusal.why,
    )


class Refusals:
    """The one way for refusals into the log."""

    def __init__(self, turn: Turn, journal: Journal, settings: AuditSettings) -> None:
        self._turn = turn
        self._journal = journal
        self._coalescer = Coalescer(every=settings.summary_seconds, budget=settings.refused_bytes_per_hour)

    def record(self, record: AuditRecord, event: str, **fields: object) -> None:
        """Write the record, and the ``event`` into the journal; or count it, if it was told already."""
        try:
            written = self._coalescer.note(record, time.monotonic())
        except AuditError:  # it cannot be encoded: then it cannot be written either
            return
        if written:
            self._journal.warning(event, **{name: value for name, value in fields.items() if value != ""})
            self._write(record)

    def summarise(self, *, all_of_them: bool = False) -> None:
        """Write the counts that are due; called once a second."""
        for summary in self._coalescer.due(time.monotonic(), all_of_them=all_of_them):
            self._journal.warning(
                "repeated",
                reason=summary.reason or "",
                count=summary.count or 0,
                path=summary.script_path or summary.binary_path or "",
                why=summary.detail or "",
            )
            self._write(summary)

    def _write(self, record: AuditRecord) -> None:
        with contextlib.suppress(AuditError):
            self._turn.record(record, sync=True)
