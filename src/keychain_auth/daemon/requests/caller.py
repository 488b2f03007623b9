"""A verified process, and what the policy of the moment says about it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import structs

from keychain_auth.audit.record import AuditRecord, Result
from keychain_auth.audit.template import Template
from keychain_auth.daemon.attesting.attestation import Attested
from keychain_auth.daemon.state.builds_file import BuildsFile
from keychain_auth.daemon.state.pending_file import PendingFile
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.identity.signature import key_text
from keychain_auth.model import Denial, Entry, Requester
from keychain_auth.moments import stamp_of
from keychain_auth.oslayer import system
from keychain_auth.policy.behalf import FIELD, judge
from keychain_auth.policy.match import match
from keychain_auth.policy.pending import PendingEntry, pending_entry, pending_pair
from keychain_auth.policy.users import of_user

_DETAIL_CHARS = 500  # it can hold names that a client chose
_TEMPLATES = 64


class Caller:
    """One connection's other end. The identity is fixed; the entry follows the policy."""

    __slots__ = (
        "_builds", "_command_line", "_entry", "_generation", "_pending", "_policy_file", "_record_fields",
        "_templates", "_until", "behalf", "identity",
    )  # fmt: skip

    def __init__(self, attested: Attested, policy_file: PolicyFile, pending: PendingFile, builds: BuildsFile) -> None:
        self.identity = attested.identity
        self._command_line = attested.command_line
        self.behalf = attested.behalf
        self._policy_file = policy_file
        self._pending = pending
        self._builds = builds
        self._generation = 0
        self._entry: Entry | Denial | None = None
        self._until: float | None = None  # when the version before an upgrade is no longer accepted
        self._templates: dict[tuple[str, str], Template] = {}
        script = self.identity.script
        self._record_fields = {
            "pid": self.identity.pid,
            "binary_path": self.identity.program.path,
            "binary_hash": f"sha256:{self.identity.program.sha256}",
            "uid": self.identity.uid,
            "script_path": script.path if script else None,
            "script_hash": f"sha256:{script.sha256}" if script else None,
            "on_behalf_of": self.requester.program.path if self.requester else None,
        }

    def entry(self) -> Entry | Denial:
        """The caller's entry in the policy in force, or why there is none."""
        policy_file = self._policy_file
        if (
            self._entry is None
            or self._generation != policy_file.generation
            or (self._until is not None and time.time() >= self._until)
        ):
            # Once admitted it stays the program that was verified, whatever its hash in the policy is by now.
            connected = isinstance(self._entry, Entry)
            entry = match(policy_file.policy, self.identity, self._builds.seen, now=time.time(), connected=connected)
            if isinstance(entry, Entry) and entry.users is not None:
                entry = of_user(entry, self.identity.uid, system.user_name(self.identity.uid))
            unapproved = judge(entry, self.requester) if isinstance(entry, Entry) else None
            self._entry = unapproved or entry
            self._generation = policy_file.generation
            self._until = self._entry.until if isinstance(self._entry, Entry) else None
        return self._entry

    @property
    def requester(self) -> Requester | None:
        """Who stands behind it, as far as anybody asked."""
        return None if self.behalf is None else self.behalf.requester

    def close(self) -> None:
        """Let go of who stands behind it."""
        if self.behalf is not None:
            self.behalf.close()

    async def remember_build(self, entry: Entry) -> None:
        """For an entry that refuses older builds: this one was seen. Raises OSError if that cannot be made durable."""
        signature = self.identity.signature
        if entry.no_rollback and signature is not None and signature.build is not None:
            await self._builds.record(entry.program.path, signature.key, signature.build)

    def basis(self, entry: Entry) -> str | None:
        """What the entry rests on beside its hash, for the record: a signature, or the time after an upgrade."""
        if entry.until is not None:
            return f"the version before an upgrade, until {stamp_of(entry.until)}"
        signature = self.identity.signature
        if self.requester is not None:
            return f"started by {' < '.join(self.requester.chain)}"
        if signature is None or entry.signer != signature.key:
            return None
        build = "" if signature.build is None else f", build {signature.build}"
        return f"signed by {key_text(signature.key)}{build}"

    async def queue(self) -> None:
        """Put the program, or the pair of it and its requester, into the pending queue; returns when it is there."""
        await self._pending.add(self.pending_entry())

    def is_queued(self) -> bool:
        """Whether it is in the queue already, so that ``queue`` would have nothing to do."""
        return self._pending.has(self.pending_entry())

    def pending_entry(self) -> PendingEntry:
        """What waits for approval: the program, or the pair of it and its requester."""
        command_line = shlex.join(self._command_line)
        entry = pending_entry(self.identity, command_line, system.user_name(self.identity.uid), datetime.now(UTC))
        # With an entry of its own it is not the helper that is unknown.
        known = isinstance(self._entry, Denial) and self._entry.field == FIELD
        return pending_pair(entry, self.requester) if known and self.requester is not None else entry

    def granted(self, action: str, service: str, targets: Sequence[str]) -> bytes:
        """The encoded record of something that was granted. Raises AuditError."""
        template = self._templates.get((action, service))
        if template is None:
            if len(self._templates) >= _TEMPLATES:  # services come and go with the policy
                self._templates.clear()
            template = self._templates[action, service] = Template(self.record(action, "GRANTED", service))
        return template.body(targets)

    def stale(self, action: str, service: str, targets: Sequence[str], age: float) -> AuditRecord:
        """The record of something that was granted from a copy that is ``age`` seconds old."""
        detail = f"from the local copy, {age:.0f} s old: the keychain does not answer"
        record = self.record(action, "GRANTED", service, targets, detail=detail)
        return structs.replace(record, stale=True, age_seconds=round(age, 3))

    def record(
        self,
        action: str,
        result: Result,
        service: str = "",
        targets: Sequence[str] = (),
        reason: str = "",
        detail: str | None = None,
    ) -> AuditRecord:
        """An audit record of something that this caller asked for."""
        return AuditRecord(
            action=action,
            service=service,
            targets=targets,
            result=result,
            reason=reason,
            detail=detail[:_DETAIL_CHARS] if detail else None,
            **self._record_fields,  # type: ignore[arg-type]
        )
