"""What the daemon does once a second, beside answering: durable audit, counts of refusals, watched files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.locking.late_audit import LateAudit
from keychain_auth.daemon.requests.refusals import Refusals
from keychain_auth.errors import AuditError

_EVERY_SECONDS = 1.0
_SYNC_APART_SECONDS = 0.05


class Housekeeping:
    """Two small loops: fsync of the audit log soon after what must not be lost, and a look around each second."""

    def __init__(
        self,
        audit: LateAudit,
        watched: Sequence[Callable[[], None]],
        mend: Callable[[], Awaitable[None]],
        refusals: Refusals,
        journal: Journal,
    ) -> None:
        """``watched``: called to look at a file each. ``mend``: brings what is remembered to the disk, or raises
        OSError."""
        self._mend = mend
        self._audit = audit
        self._watched = watched
        self._refusals = refusals
        self._journal = journal
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._tasks = [asyncio.ensure_future(self._sync_soon()), asyncio.ensure_future(self._look_around())]

    async def stop(self) -> None:
        """End both loops."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sync_soon(self) -> None:
        """In batches: many writes and denials share one fsync, and nobody waits for it."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SYNC_APART_SECONDS)
            if self._audit.sync_wanted:
                await loop.run_in_executor(None, self._sync)

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            try:
                self._look()
                await self._mend()
            except OSError as error:
                self._journal.error("what is remembered cannot be written", why=error)
            except Exception as fault:  # noqa: BLE001 - one round that fails must not end the watch
                loop = asyncio.get_running_loop()
                loop.call_exception_handler({"message": "a look around failed", "exception": fault})

    def _look(self) -> None:
        for look in self._watched:
            look()
        self._refusals.summarise()
        try:
            problem = self._audit.check()
        except AuditError as error:
            problem = str(error)
        if problem:
            self._journal.error("the audit log was tampered with or cannot be written", why=problem)

    def _sync(self) -> None:
        try:
            self._audit.sync()
        except (AuditError, OSError) as error:
            self._journal.error("the audit log cannot be made durable", why=error)
