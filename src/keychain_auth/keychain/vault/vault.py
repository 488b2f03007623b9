"""The vault as a keychain: reads from memory, writes in one thread, one transaction each.

Contract (beyond ``keychain.base``):
* ``read_now``, ``search`` and ``services`` never suspend: a single ``send(None)`` finishes them. ``read`` and
  ``read_prefix`` suspend after every ``PART`` values, so that others have their turn; what they return is all of the
  moment in which they were called, or all of a later one. They
  see what is committed, and a write as soon as it has returned.
* Changes happen one after the other. Cancelling the task that awaits one does not undo it, nor leave memory and
  disk apart.
* A failed change leaves the vault as it was, and the vault lives on.

What it does not promise: secrets that leave no trace in this process's memory. The vault key and the keys derived from
it lie in buffers that ``close`` wipes, and in OpenSSL's contexts, which OpenSSL clears. Names, and every value that was
ever answered, were Python objects, which Python cannot overwrite. The daemon keeps its memory from other processes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from keychain_auth.crypto.aead import OVERHEAD, NotAuthentic
from keychain_auth.crypto.kdf import subkey, wipe
from keychain_auth.errors import KeychainError, NotFound, VaultDamaged
from keychain_auth.keychain.budget import ANSWER_BYTES, Budget
from keychain_auth.keychain.names import encoded, require_names
from keychain_auth.keychain.vault import backup
from keychain_auth.keychain.vault.checking import CheckReport, check
from keychain_auth.keychain.vault.format import (
    FORMAT,
    OWN_AUDIT_KEY,
    OWN_SERVICE,
    OWN_SLOTS,
    Codec,
    Damage,
    SlotRow,
    context_of,
    generation_of,
    row_id_of,
)
from keychain_auth.keychain.vault.history import Version
from keychain_auth.keychain.vault.index import Index, Record, Shelf, matches
from keychain_auth.keychain.vault.slots import record_of
from keychain_auth.keychain.vault.store import Reader, Writer
from keychain_auth.model import Item

T = TypeVar("T")

PART = 64
"""Values opened at once, in about a tenth of a millisecond."""


class Vault:
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
        worker: ThreadPoolExecutor,
        lock: int | None,
        vault_id: bytes,
        slots: Sequence[SlotRow],
    ) -> None:
        self.path = path
        self.answer_bytes = ANSWER_BYTES
        self._key = key
        self._codec = codec
        self._open_bytes = codec.open_bytes
        self._index = index
        self._reader = reader
        self._writer = writer
        self._worker = worker
        self._lock = lock
        self._vault_id = vault_id
        self._slots = list(slots)
        self._closed = False
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds tasks only weakly
        self._generation = writer.state.generation  # the last one that the index shows
        self._changing = False  # the disk may be one transaction ahead of the index

    # --- reading ------------------------------------------------------------------------------

    async def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain. Raises VaultDamaged naming service and target if a value does not authenticate."""
        return await self._in_parts(service, attributes, lambda: self._named(service, targets))

    def read_now(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain. It never takes waiting."""
        if len(targets) == 1 and not attributes:  # nearly every read; the general way costs half as much again
            record = self._shelf(service).records.get(targets[0])
            if record is None:
                return []
            if (blob := record.blob) is not None:
                try:
                    return [Item(record.target, self._open_bytes(blob, record.context).decode(), record.attributes)]
                except NotAuthentic:
                    raise _altered(service, record.target) from None
        return self._revealed(service, self._named(service, targets), attributes)

    def _named(self, service: str, targets: Sequence[str]) -> list[Record]:
        records = self._shelf(service).records
        return [record for target in targets if (record := records.get(target)) is not None]

    async def read_prefix(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        return await self._in_parts(service, attributes, lambda: self._shelf(service).beginning_with(prefixes))

    async def _in_parts(
        self, service: str, attributes: Mapping[str, str], find: Callable[[], Sequence[Record]]
    ) -> list[Item]:
        """What ``find`` finds, with values. What lies in memory stays as it was found, whatever is written meanwhile;
        a long value is read from the disk, so after a write that came in between all is found and read anew."""
        records = find()
        if len(records) <= PART:
            return self._revealed(service, records, attributes)
        budget, generation = Budget(self.answer_bytes), self._generation
        items: list[Item] = []
        for at in range(0, len(records), PART):
            part = records[at : at + PART]
            if self._generation != generation and any(record.blob is None for record in part):
                return self._revealed(service, find(), attributes)
            items += self._revealed(service, part, attributes, budget)
            await asyncio.sleep(0)
            if self._closed:
                raise _is_closed()
        return items

    async def search(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        found = self._shelf(service).beginning_with(prefixes or ("",))
        budget = Budget(self.answer_bytes)
        items = []
        for record in found:
            if matches(record, attributes):
                budget.take(0, record.target, record.attributes)
                items.append(Item(record.target, None, record.attributes))
        return items

    async def services(self) -> list[str]:
        """See Keychain."""
        return self._index.services()

    def _shelf(self, service: str) -> Shelf:
        """The vault's own rows, whose service begins with NUL, are no caller's business."""
        if service.startswith("\0"):
            raise KeychainError("cannot use a name that holds a NUL character")
        return self._index.shelf(service)

    def _revealed(
        self,
        service: str,
        records: Sequence[Record],
        attributes: Mapping[str, str],
        budget: Budget | None = None,
    ) -> list[Item]:
        if budget is None:
            budget = Budget(self.answer_bytes if len(records) > 1 else sys.maxsize)  # one alone is never too much
        if not attributes and (at_once := self._revealed_at_once(service, records, budget)) is not None:
            return at_once
        items = []
        for record in records:
            if attributes and not matches(record, attributes):
                continue
            blob = record.blob
            if blob is None:
                item = self._from_disk(service, record, attributes)
                if item is not None:
                    items.append(item)
                    budget.take(len((item.value or "").encode()), item.target, item.attributes)
                continue
            budget.take(len(blob) - OVERHEAD, record.target, record.attributes)
            try:
                value = self._open_bytes(blob, record.context).decode()
            except NotAuthentic:
                raise _altered(service, record.target) from None
            items.append(Item(record.target, value, record.attributes))
        return items

    def _revealed_at_once(self, service: str, records: Sequence[Record], budget: Budget) -> list[Item] | None:
        """What the loop above makes of ``records``; None if one lies on disk or has attributes, or all are too much.

        Why: most answers are short values and plain names, and a call for each to count it costs as much as opening it.
        """
        open_bytes, left = self._open_bytes, budget.left + OVERHEAD * len(records)
        items = []
        for record in records:
            blob, target = record.blob, record.target
            if blob is None or record.attributes is not None or not target.isascii():
                return None
            left -= len(blob) + len(target)
            if left < 0:
                return None
            try:
                items.append(Item(target, open_bytes(blob, record.context).decode()))
            except NotAuthentic:
                raise _altered(service, target) from None
        budget.left = left
        return items

    def _from_disk(self, service: str, record: Record, attributes: Mapping[str, str]) -> Item | None:
        """A long value. While a change is under way the disk may already show what the index will show next."""
        row_id = row_id_of(record.context)
        row = self._reader.row(row_id)
        if row is None:
            if self._changing:
                return None
            raise _altered(service, record.target)
        sealed_name, blob, generation = row
        if not (isinstance(sealed_name, bytes) and isinstance(blob, bytes) and isinstance(generation, int)):
            raise _altered(service, record.target)
        try:
            if generation != generation_of(record.context):
                if not (self._changing and generation > self._generation):
                    raise _altered(service, record.target)
                context = context_of(row_id, generation)
                name = self._codec.open_name(sealed_name, context)
                record = Record(record.target, context, None, name.attributes)
                if not matches(record, attributes):
                    return None
            return Item(record.target, self._open_bytes(blob, record.context).decode(), record.attributes)
        except (NotAuthentic, Damage):
            raise _altered(service, record.target) from None

    # --- changing -----------------------------------------------------------------------------

    async def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> None:
        """See Keychain. Of two entries with one target the last counts."""
        require_names(service, [target for target, _ in entries], attributes)
        values = dict(zip((target for target, _ in entries), encoded(value for _, value in entries), strict=True))
        if values:
            name = program.encode("utf-8", "backslashreplace").decode()  # a file name need not be UTF-8
            await self._in_turn(partial(self._write, service, values, dict(attributes) or None, name))

    async def _write(
        self, service: str, values: dict[str, bytes], attributes: dict[str, str] | None, program: str
    ) -> None:
        await self._change(
            partial(self._writer.write, service, values, attributes, program),
            partial(self._index.put, service),
        )

    async def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        """See Keychain. Which of them match is decided when its turn has come."""
        await self._in_turn(partial(self._delete, service, targets, attributes))

    async def _delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        records = self._shelf(service).records
        wanted = [record for target in dict.fromkeys(targets) if (record := records.get(target)) is not None]
        doomed = [record for record in wanted if matches(record, attributes)]
        if doomed:
            await self._change(
                partial(self._writer.delete, [row_id_of(record.context) for record in doomed]),
                lambda _: self._index.drop(service, [record.target for record in doomed]),
            )

    # --- earlier values -----------------------------------------------------------------------

    def history(self, service: str, target: str) -> list[Version]:
        """The present value's version (number 0) if there is one, then the earlier ones, the newest first.

        Raises VaultDamaged if one of them was altered.
        """
        row_id = self._codec.row_id(service, target)
        if self._closed:
            raise _is_closed()
        present = self._reader.row(row_id)
        rows = enumerate(self._reader.past(row_id), start=1)
        found = [*([(0, present)] if present is not None else []), *rows]
        return [self._version(service, target, row_id, number, row)[0] for number, row in found]

    def _version(
        self, service: str, target: str, row_id: bytes, number: int, row: tuple[object, object, object]
    ) -> tuple[Version, bytes]:
        """A row as a version, and its value."""
        sealed_name, blob, generation = row
        if not (isinstance(sealed_name, bytes) and isinstance(blob, bytes) and isinstance(generation, int)):
            raise _altered(service, target)
        context = context_of(row_id, generation)
        try:
            name, value = self._codec.open_name(sealed_name, context), self._codec.open_bytes(blob, context)
        except (NotAuthentic, Damage):
            raise _altered(service, target) from None
        return Version(number, name.modified, name.program, name.attributes), value

    async def restore_value(self, service: str, target: str, number: int, program: str = "") -> None:
        """Write the earlier value ``number`` (as ``history`` counts) again; what it replaces becomes an earlier one.

        Raises NotFound.
        """
        await self._in_turn(partial(self._restore_value, service, target, number, program))

    async def _restore_value(self, service: str, target: str, number: int, program: str) -> None:
        row_id = self._codec.row_id(service, target)
        rows = self._reader.past(row_id)
        if not 1 <= number <= len(rows):
            raise NotFound(
                f"{service} {target} has no earlier value number {number}",
                hint=f"keychain-auth history {service} {target}",
            )
        version, value = self._version(service, target, row_id, number, rows[number - 1])
        await self._write(service, {target: value}, version.attributes, program)

    async def forget(self, service: str, target: str) -> None:
        """Drop the earlier values of one target."""
        row_id = self._codec.row_id(service, target)
        await self._in_turn(lambda: self._change(partial(self._writer.forget, row_id), lambda _: None))

    async def _in_turn(self, change: Callable[[], Awaitable[None]]) -> None:
        """Run ``change`` alone, in a task of its own: cancelling the caller must not tear it apart."""
        task = asyncio.get_running_loop().create_task(self._alone(change))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _alone(self, change: Callable[[], Awaitable[None]]) -> None:
        async with self._turn:
            if self._closed:
                raise _is_closed()
            await change()

    async def _change(self, commit: Callable[[], T], publish: Callable[[T], None]) -> None:
        """``commit`` in the writer's thread, then ``publish`` its result in the index."""
        job = self._worker.submit(commit)
        self._changing = True
        try:
            try:
                result = await asyncio.wrap_future(job)
            except asyncio.CancelledError:
                # Only the end of the event loop cancels this task. What is being committed cannot be stopped, so its
                # end is awaited here; nothing comes after it, so the task may end as if uncancelled.
                if job.cancelled():
                    raise
                result = job.result()
            publish(result)
            self._generation = self._writer.state.generation
        finally:
            self._changing = False

    # --- its own rows, its slots ---------------------------------------------------------------

    def own(self, name: str) -> str | None:
        """A row of the vault's own (``format.OWN_…``), None if it is not there. Raises KeychainError."""
        found = self._index.shelf(OWN_SERVICE).records.get(name)
        items = [] if found is None else self._revealed(OWN_SERVICE, [found], {})
        return items[0].value if items else None

    async def keep_own(self, name: str, text: str | None) -> None:
        """Store a row of the vault's own, durably; None removes it. Raises KeychainError."""
        await self._in_turn(partial(self._keep, {name: None if text is None else text.encode()}))

    @property
    def slots(self) -> list[SlotRow]:
        """The key slots, by number. ``keys.Keys`` changes them."""
        return list(self._slots)

    def _reindex(self, codec: Codec, records: dict[str, list[Record]]) -> None:
        index = Index()
        for service, found in records.items():
            index.put(service, found)
        self._codec, self._open_bytes, self._index = codec, codec.open_bytes, index

    async def _keep(self, own: Mapping[str, bytes | None], slots: list[SlotRow] | None = None) -> None:
        if slots is not None:
            own = {**own, OWN_SLOTS: record_of(slots).encode()}

        def publish(records: list[Record]) -> None:
            known = self._index.shelf(OWN_SERVICE).records
            self._index.put(OWN_SERVICE, records)
            self._index.drop(OWN_SERVICE, [name for name, value in own.items() if value is None and name in known])
            if slots is not None:
                self._slots = slots

        await self._change(partial(self._writer.keep, own, slots), publish)

    # --- the rest -----------------------------------------------------------------------------

    def audit_key(self) -> bytes:
        """The 32-byte key of the audit log's chain: derived from the first vault key, and kept when that changes."""
        if self._closed:
            raise _is_closed()
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
        while True:
            if self._closed:
                raise _is_closed()
            codec = self._codec
            try:
                result = await asyncio.to_thread(work, codec)
            except Exception:
                if self._closed:
                    raise _is_closed() from None
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
        async with self._turn:
            if self._closed:
                return
            self._closed = True
            self._index = _ClosedIndex()
            self._reader.close()  # first: the last connection to close empties the log, and must be able to write
            self._worker.submit(self._writer.close).result()
            self._worker.shutdown()
            wipe(self._key)
            self._codec.wipe()
            if self._lock is not None:
                os.close(self._lock)


class _ClosedIndex(Index):
    """A closed vault must not look like an empty one."""

    __slots__ = ()

    def shelf(self, service: str) -> Shelf:
        raise _is_closed()

    def services(self) -> list[str]:
        raise _is_closed()


def _is_closed() -> KeychainError:
    return KeychainError("the vault is closed", hint="keychain-auth start")


def _altered(service: str, target: str) -> VaultDamaged:
    return VaultDamaged(
        f"the stored value of {target!r} in service {service!r} does not authenticate",
        hint="restore the vault from a backup, or write this secret anew",
    )
