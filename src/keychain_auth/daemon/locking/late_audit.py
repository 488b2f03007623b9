"""The audit log of a daemon that starts locked: its key is sealed in the vault, so its first lines must wait.

Contract:
* While the key is not there, records wait in memory: at most ``MOST_WAITING``, beyond that they are only counted.
  Nothing is given out in that time, so nobody is refused for want of a record.
* When the key comes, they go into the log first, each with the time at which it was made.
* From then on ``append`` is the log's own. A lock later takes the vault's key away, not this one.

What it does not promise: records of a daemon that ends before anybody unlocked it. They were in its journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from keychain_auth.audit.log import LOG_CHECK, RECORDS_REFUSED, AuditLog
from keychain_auth.audit.record import AuditRecord, administrative
from keychain_auth.errors import AuditError, VaultLocked
from keychain_auth.moments import stamp_of

MOST_WAITING = 1000


class Append(Protocol):
    """``AuditLog.append``."""

    def __call__(self, records: Sequence[AuditRecord | bytes], *, sync: bool = False) -> None:
        """See there."""


class LateAudit:
    """Stands in front of an ``AuditLog``. ``open_log`` makes it, once there is a key."""

    def __init__(self, open_log: Callable[[bytes], AuditLog]) -> None:
        self._open_log = open_log
        self._log: AuditLog | None = None
        self._key = b""
        self._waiting: list[AuditRecord | bytes] = []
        self._dropped = 0
        self.append: Append = self._wait  # once there is a log, its own: the request path pays nothing for this class

    def open(self, key: bytes) -> bool:
        """The key is there; False if it was there before. Raises AuditError, UnsafeFile: then everything waits on."""
        if self._log is not None:
            return False
        log = self._open_log(key)
        waiting = self._waiting
        if self._dropped:
            why = f"{self._dropped} more records were made before the vault was unlocked than could wait"
            waiting = [*waiting, administrative(LOG_CHECK, result="ERROR", reason=RECORDS_REFUSED, detail=why)]
        if waiting:
            try:
                log.append(waiting, sync=True)
            except AuditError:
                log.close()
                raise
        self._log, self._key, self._waiting = log, key, []
        self.append = log.append
        return True

    def _wait(self, records: Sequence[AuditRecord | bytes], *, sync: bool = False) -> None:
        made = f"made {stamp_of(time.time())}, before the vault was unlocked"
        for record in records:
            if len(self._waiting) >= MOST_WAITING:
                self._dropped += 1
                continue
            if isinstance(record, bytes):  # encoded already: what was granted, so there is nothing to add
                self._waiting.append(record)
                continue
            detail = f"{record.detail}; {made}" if record.detail else made
            self._waiting.append(msgspec.structs.replace(record, detail=detail))

    @property
    def waiting(self) -> int:
        """How many records wait for the key."""
        return len(self._waiting)

    @property
    def key(self) -> bytes:
        """The key of the log's chain. Raises VaultLocked as long as there was none."""
        if self._log is None:
            raise VaultLocked("the key of the audit log is in the locked vault", hint="keychain-auth unlock")
        return self._key

    @property
    def head(self) -> tuple[int, str]:
        """See AuditLog."""
        return self._log.head if self._log is not None else (0, "")

    @property
    def findings(self) -> tuple[str, ...]:
        """See AuditLog."""
        return self._log.findings if self._log is not None else ()

    @property
    def sync_wanted(self) -> bool:
        """See AuditLog."""
        return self._log is not None and self._log.sync_wanted

    def sync(self) -> None:
        """See AuditLog."""
        if self._log is not None:
            self._log.sync()

    def check(self) -> str | None:
        """See AuditLog."""
        return self._log.check() if self._log is not None else None

    def close(self) -> None:
        """See AuditLog."""
        if self._log is not None:
            self._log.close()
