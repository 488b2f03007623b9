"""What the daemon itself has to say: in its log, and on record.

Contract: no text of a fault is told, for it could hold what the fault tripped over. A record that cannot be written is
said in the log; nothing rests on it.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from typing import Any

from keychain_auth.audit.record import administrative
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.locking.late_audit import LateAudit
from keychain_auth.daemon.state.policy_file import MISSING, UNSEALED, PolicyFile
from keychain_auth.errors import AuditError
from keychain_auth.policy.difference import summary
from keychain_auth.policy.parse import Policy


class Events:
    """For the event loop's thread."""

    def __init__(self, audit: LateAudit, journal: Journal) -> None:
        self._audit = audit
        self._journal = journal

    def record(self, action: str, detail: str, *, failed: bool = False) -> None:
        """Something that no client asked for."""
        try:
            result: Any = "ERROR" if failed else "GRANTED"
            self._audit.append((administrative(action, result=result, detail=detail),), sync=True)
        except AuditError as error:
            self._journal.error("the audit log cannot be written", why=error)

    def policy_changed(self, policy_file: PolicyFile, before: Policy) -> None:
        """What the file says is in force, or is not obeyed."""
        if policy_file.policy is not before or not policy_file.problem:
            entries = len(policy_file.policy.by_program)
            self._journal.info("policy in force", path=policy_file.path, entries=entries)
            self.record("policy_change", summary(before, policy_file.policy) or "the file is obeyed again")
        if policy_file.problem:
            why = policy_file.problem
            self._journal.error("config.json is not obeyed, the last good policy stays", path=policy_file.path, why=why)
            self.record("policy_unsealed" if why in (MISSING, UNSEALED) else "policy_malformed", why, failed=True)

    def settings_not_obeyed(self, path: str, why: str) -> None:
        """daemon.toml says something else than what was accepted."""
        self._journal.error("daemon.toml is not obeyed, what was accepted last stays", path=path, why=why)
        self.record("settings_unsealed", why, failed=True)

    def fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A fault of the daemon's own: its kind and place. An exception handler of asyncio."""
        fault = context.get("exception")
        frames = traceback.extract_tb(fault.__traceback__) if fault is not None else []
        place = " < ".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in reversed(frames))
        self._journal.error(
            "fault", what=context.get("message", ""), kind=type(fault).__name__ if fault else "", place=place
        )
