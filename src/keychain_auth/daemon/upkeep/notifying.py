"""Tells a person at a desktop, where there is one; where there is none, nobody misses it.

Contract: never waited for, never in the way: a thread, a deadline, one notification under way, and a pause between two
of them. What could not be shown is in the journal and the audit log anyway. It needs jeepney (extra
``secret-service``); ``state`` says why nothing is shown.
"""

from __future__ import annotations

import asyncio
import importlib
from functools import partial

from keychain_auth.daemon.journal import Journal

_APART_SECONDS = 2.0
_MOST_WAITING = 8


class Notifier:
    """``tell`` is safe to call at any time, from the event loop."""

    def __init__(self, journal: Journal, *, wanted: bool) -> None:
        self._journal = journal
        self._wanted = wanted
        self._waiting: list[tuple[str, str, bool]] = []
        self._task: asyncio.Task[None] | None = None
        self.state = "nothing to tell yet" if wanted else "off"

    def tell(self, title: str, text: str, *, urgent: bool = True) -> None:
        """Show it soon. What is the same and still waits is shown once; beyond a few, the rest is left out."""
        fresh = (title, text, urgent)
        if not self._wanted or fresh in self._waiting or len(self._waiting) >= _MOST_WAITING:
            return
        self._waiting.append(fresh)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._show())

    async def stop(self) -> None:
        """End; what still waits is dropped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _show(self) -> None:
        try:
            module = importlib.import_module("keychain_auth.secret_service.notifications")
        except ImportError:
            self.state = "needs jeepney: install keychain-auth with its extra secret-service"
            self._waiting.clear()
            return
        loop = asyncio.get_running_loop()
        while self._waiting:
            title, text, urgent = self._waiting.pop(0)
            try:
                self.state = await loop.run_in_executor(None, partial(module.notify, title, text, urgent=urgent))
            except module.Unreachable as problem:
                self.state = str(problem)
                self._waiting.clear()
                return
            await asyncio.sleep(_APART_SECONDS)
