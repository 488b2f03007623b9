"""Hashes of programs: remembered where that is sound, made in threads, once for each file however many wait.

Two pools, so that strangers wait for strangers: a program at a registered path never queues behind the 2 GiB file that
somebody unknown connects from. hashlib releases the interpreter's lock while it works.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from keychain_auth.identity.facts import FileKey
from keychain_auth.platform.base import Digest, Peer, PeerGone

_REMEMBERED = 4096


class Hasher:
    """SHA-256 by file version. ``limit`` is the size in bytes up to which a file is hashed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._remembered: dict[FileKey, str] = {}
        self._running: dict[FileKey, asyncio.Future[Digest]] = {}
        self.registered = ThreadPoolExecutor(2, thread_name_prefix="hash-registered")
        self.strangers = ThreadPoolExecutor(1, thread_name_prefix="hash-stranger")

    def close(self) -> None:
        """Stop the threads; what runs is finished, what waits is dropped."""
        for pool in (self.registered, self.strangers):
            pool.shutdown(wait=False, cancel_futures=True)

    def remembered(self, key: FileKey) -> str | None:
        """The hash of this version of the file, if it is known."""
        return self._remembered.get(key)

    async def program(self, peer: Peer, key: FileKey, pool: ThreadPoolExecutor) -> str:
        """The hash of the peer's executable. Raises PeerGone, FileTooLarge, OSError."""
        while True:
            if (known := self._remembered.get(key)) is not None:
                return known
            if (running := self._running.get(key)) is None:
                digest = await self._start(peer, key, pool)
                break
            try:
                digest = await asyncio.shield(running)
                break
            except (PeerGone, OSError):
                continue  # it was read through another peer, which is gone: try with this one
        if digest.key != key:
            raise PeerGone("its executable changed while it was hashed")
        return digest.sha256

    async def _start(self, peer: Peer, key: FileKey, pool: ThreadPoolExecutor) -> Digest:
        running = asyncio.get_running_loop().run_in_executor(pool, peer.hash_program, self._limit)
        self._running[key] = running
        try:
            digest = await asyncio.shield(running)
        finally:
            self._running.pop(key, None)
        if digest.keep:
            while len(self._remembered) >= _REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest.key] = digest.sha256
        return digest
