"""pending.json on disk: the daemon adds to it, the command line takes from it.

A flood costs little: requests are gathered, one write is under way at a time, and the writes that a flood causes are
at least a quarter of a second apart, and five times as long as the last one took. A program that is in the file already
causes a write only to renew its time, at most once a minute. A program that was not in it is there before its refusal
is sent, so that ``list-pending`` right after a refusal shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from keychain_auth import files
from keychain_auth.daemon.journal import Journal
from keychain_auth.errors import UnsafeFile
from keychain_auth.policy.pending import NotAQueue, PendingEntry, decode_queue, encode_queue, merge

T = TypeVar("T")
_APART_SECONDS = 0.25
_TIMES_AS_LONG = 5  # a long queue is rewritten for a sixth of the time at most
_RENEW_SECONDS = 60.0
_Key = tuple[str, str, str, str]


def load(path: str) -> list[PendingEntry]:
    """The queue in the file without what expired. Raises UnsafeFile, ValueError when it is not a queue."""
    try:
        content = files.read_private(path)
    except FileNotFoundError:
        return []
    return merge(decode_queue(content), (), datetime.now(UTC))


def change(path: str, edit: Callable[[list[PendingEntry]], tuple[list[PendingEntry], T]]) -> T:
    """Replace the queue in the file by what ``edit`` makes of it, under the file's lock."""
    files.make_private_dir(os.path.dirname(path))
    with files.locked(path):
        queue, result = edit(load(path))
        files.replace(path, encode_queue(queue))
    return result


class PendingFile:
    """The daemon's side: remembers who asked, and writes it down soon."""

    def __init__(self, path: str, journal: Journal) -> None:
        self.path = path
        self._journal = journal
        self._fresh: dict[_Key, PendingEntry] = {}
        self._written: dict[_Key, float] = {}
        self._version: tuple[int, int] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._last_write = -_APART_SECONDS
        self._apart = _APART_SECONDS

    async def add(self, entry: PendingEntry) -> None:
        """Queue ``entry``; returns when it is in the file (or could not be written, which the journal says)."""
        if self.has(entry):
            return
        self._fresh[entry.key] = entry
        while entry.key in self._fresh:
            if self._writing is None:
                self._writing = asyncio.ensure_future(self._write())
            await asyncio.shield(self._writing)

    def has(self, entry: PendingEntry) -> bool:
        """Whether ``entry`` is in the file, and its time there is young enough."""
        seen = self._written.get(entry.key)
        if seen is None or asyncio.get_running_loop().time() - seen >= _RENEW_SECONDS:
            return False
        return self._unchanged()

    async def close(self, seconds: float) -> None:
        """Wait for the write that is under way, at most ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._writing is not None:
                    await asyncio.shield(self._writing)

    def _unchanged(self) -> bool:
        """Is the file still the one that we wrote? A command may have taken entries out of it."""
        return self._version is not None and self._version == _version(self.path)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(max(0.0, self._last_write + self._apart - loop.time()))
            fresh, self._fresh = self._fresh, {}
            self._last_write = loop.time()
            try:
                self._version, kept = await loop.run_in_executor(None, _merge_into, self.path, list(fresh.values()))
            except (OSError, ValueError, UnsafeFile) as error:
                self._journal.error("the pending queue cannot be written", path=self.path, why=error)
                return
            self._apart = max(_APART_SECONDS, _TIMES_AS_LONG * (loop.time() - self._last_write))
            long_ago = -_RENEW_SECONDS
            self._written = {
                key: self._last_write if key in fresh else self._written.get(key, long_ago) for key in kept
            }
        finally:
            self._writing = None


def _merge_into(path: str, fresh: list[PendingEntry]) -> tuple[tuple[int, int] | None, list[_Key]]:
    """Write the merged queue; a file that is no queue is kept beside under another name."""

    def edit(queue: list[PendingEntry]) -> tuple[list[PendingEntry], list[_Key]]:
        merged = merge(queue, fresh, datetime.now(UTC))
        return merged, [entry.key for entry in merged]

    try:
        kept = change(path, edit)
    except NotAQueue:
        os.replace(path, path + ".damaged")
        kept = change(path, edit)
    return _version(path), kept


def _version(path: str) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns
