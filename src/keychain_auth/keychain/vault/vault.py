"""The vault as a keychain: one open file, its keys, and what is done with it as a whole.

Contract: that of ``keychain.base``, and of ``reading`` and ``changing``, which are its parts.

What it does not promise: secrets that leave no trace in this process's memory. The vault key and the keys derived from
it lie in buffers that ``close`` wipes, and in OpenSSL's contexts, which OpenSSL clears. Names, and every value that was
ever answered, were Python objects, which Python cannot overwrite. The daemon keeps its memory from other processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from keychain_auth.crypto.kdf import subkey, wipe
from keychain_auth.errors import KeychainError
from keychain_auth.keychain.vault import backup
from keychain_auth.keychain.vault.changing import Changing
from keychain_auth.keychain.vault.checking import CheckReport, check
from keychain_auth.keychain.vault.database import Reader
from keychain_auth.keychain.vault.format import FORMAT, OWN_AUDIT_KEY, Codec, SlotRow
from keychain_auth.keychain.vault.index import Index
from keychain_auth.keychain.vault.reading import ClosedIndex, is_closed
from keychain_auth.keychain.vault.worker import Worker
from keychain_auth.keychain.vault.writer import Writer

T = TypeVar("T")


class Vault(Changing):
    """An open vault; ``open_vault`` makes it. All methods belong to one thread, that of the event loop."""

    def __init__(
        self,
        *,
        path: str,
        key: memoryview,
        codec: Codec,
        index: Index,
        reader: Reader,
        writer: Writer,
        worker: Worker,
        lock: int | None,
        vault_id: bytes,
        slots: Sequence[SlotRow],
    ) -> None:
        super().__init__(codec, index, reader, writer, worker, slots)
        self.path = path
        self._key = key
        self._lock = lock
        self._vault_id = vault_id

    def audit_key(self) -> bytes:
        """The 32-byte key of the audit log's chain: derived from the first vault key, and kept when that changes."""
        if self._closed:
            raise is_closed()
        kept = self.own(OWN_AUDIT_KEY)
        return subkey(self._key, b"", "audit 1") if kept is None else bytes.fromhex(kept)

    async def check(self) -> CheckReport:
        """Look at every row on the disk, in a thread. Raises KeychainError if the file cannot be read."""
        return await self._steadily(lambda codec: check(self.path, codec))

    async def backup(self, passphrase: str, created: str) -> bytes:
        """The content of a backup file (``backup``), made in a thread. ``created``: the time that it shows.

        Raises UsageError for a short passphrase, VaultDamaged, KeychainError.
        """

        def work(codec: Codec) -> bytes:
            key = bytearray(self._key)
            try:
                return backup.make(self.path, memoryview(key), codec, passphrase, created)
            finally:
                wipe(key)

        return await self._steadily(work)

    async def _steadily(self, work: Callable[[Codec], T]) -> T:
        """``work`` in a thread, under one and the same vault key from its begin to its end."""
        with contextlib.suppress(KeychainError):  # a full disk is no reason not to look: the journal is looked at too
            await self.place_all()
        while True:
            if self._closed:
                raise is_closed()
            codec = self._codec
            try:
                result = await asyncio.to_thread(work, codec)
            except Exception:
                if self._closed:
                    raise is_closed() from None
                if codec is self._codec:
                    raise
            else:
                if codec is self._codec:
                    return result
            # A new vault key came meanwhile, and what was looked at by the old one says nothing.

    async def probe(self) -> None:
        """Nothing to ask: what is known here is how it is."""

    def health(self) -> dict[str, object]:
        """See Keychain: backend, format, number of secrets and services, kinds of the key slots."""
        if self._closed:
            return {"backend": "vault", "format": FORMAT, "open": False}
        return {
            "backend": "vault",
            "format": FORMAT,
            "open": True,
            "secrets": len(self._index),
            "services": len(self._index.services()),
            "slots": [slot.kind for slot in self._slots],
            "earlier_values": self._writer.state.past_count,
        }

    async def close(self) -> None:
        """Wait for the changes under way, empty the log into the file, wipe the key, release the lock."""
        async with self._order:
            if self._closed:
                return
            self._closed = True
            self._stop_placing()
            self._order.close()
            self._index = ClosedIndex()
            self._reader.close()  # first: the last connection to close empties the log, and must be able to write
            self._worker.submit(self._writer.close).result()
            self._worker.shutdown()
            wipe(self._key)
            self._codec.wipe()
            if self._lock is not None:
                os.close(self._lock)
