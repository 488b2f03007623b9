"""Locks the vault when the machine goes to sleep, or the person's screen is locked, as logind tells.

Contract: only while a passphrase is set: a vault that a file opens again without asking would be locked for nothing.
Without logind, without its bus, or without jeepney nothing is watched, ``state`` says why, and it is tried again. The
timers do not depend on any of it (``lock_rules``).
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.daemon.settings import LockSettings

T = TypeVar("T")
_AGAIN_SECONDS = 60.0


class Watched(Protocol):
    """``secret_service.logind.Logind``."""

    def fileno(self) -> int: ...

    def reasons(self) -> list[str]: ...

    def close(self) -> None: ...


class SleepWatch:
    """``state`` is a word for ``status``: "watched", or why it is not."""

    def __init__(self, safe: Safe, settings: LockSettings, journal: Journal) -> None:
        self._safe = safe
        self._journal = journal
        self._wanted = {"SLEEP": settings.on_sleep, "SCREEN": settings.on_screen_lock}
        self._task: asyncio.Task[None] | None = None
        self.state = "off" if not any(self._wanted.values()) else "not yet"

    def start(self) -> None:
        """Begin, unless nothing is wanted."""
        if any(self._wanted.values()):
            self._task = asyncio.ensure_future(self._watch())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        try:
            module = importlib.import_module("keychain_auth.secret_service.logind")
        except ImportError:
            self.state = "needs jeepney: install keychain-auth with its extra secret-service, as the README says"
            return
        reasons = {getattr(module, name) for name, wanted in self._wanted.items() if wanted}
        while True:
            try:
                logind: Watched = await _in_thread(module.Logind)
                try:
                    self.state = "watched"
                    await self._listen(logind, reasons)
                finally:
                    logind.close()
            except module.Unreachable as problem:
                if self.state == "watched":  # never there is no news: many machines have no logind
                    self._journal.warning("logind is not watched any more", why=problem)
                self.state = str(problem)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _listen(self, logind: Watched, wanted: set[str]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for reason in await _in_thread(logind.reasons):
                if reason in wanted and self._safe.guarded:
                    await self._safe.lock(reason)
            said = loop.create_future()
            loop.add_reader(logind.fileno(), _settle, said)
            try:
                await said
            finally:
                loop.remove_reader(logind.fileno())


def _settle(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)
