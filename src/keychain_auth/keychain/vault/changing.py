"""Changes of an open vault: in one thread, one after the other (``order``).

Contract:
* Cancelling the task that awaits a change that was begun does not undo it, nor leave memory and disk apart.
* A failed change leaves the vault as it was, and the vault lives on.
* A write of short values is durable as an entry of the journal when it returns; its rows are made when nobody has
  written for a moment, or many wait (``journal``). Every other change is made with its rows, in one transaction.
* Earlier values are kept with their time and program (``history``), and can be written again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from keychain_auth.crypto.aead import OVERHEAD, NotAuthentic
from keychain_auth.errors import KeychainError, NotFound, quoted
from keychain_auth.keychain.names import encoded, require_names
from keychain_auth.keychain.vault.database import Reader
from keychain_auth.keychain.vault.format import OWN_SERVICE, OWN_SLOTS, Codec, Damage, SlotRow, context_of, row_id_of
from keychain_auth.keychain.vault.history import Version
from keychain_auth.keychain.vault.index import INLINE_BYTES, Index, Record, matches
from keychain_auth.keychain.vault.journal import Batch
from keychain_auth.keychain.vault.order import Order
from keychain_auth.keychain.vault.reading import Reading, altered, is_closed
from keychain_auth.keychain.vault.slots import record_of
from keychain_auth.keychain.vault.worker import Worker
from keychain_auth.keychain.vault.writer import Writer

T = TypeVar("T")
_LONGEST = INLINE_BYTES - OVERHEAD
_QUIET_SECONDS = 0.2
"""Rows are made when nobody has written for so long, or at once if more than ``_MANY`` wait; in turns of so many
targets."""
_AT_ONCE = 256
_MANY = 1024


class Changing(Reading):
    """``worker``: the thread of ``writer``."""

    def __init__(
        self,
        codec: Codec,
        index: Index,
        reader: Reader,
        writer: Writer,
        worker: Worker,
        slots: Sequence[SlotRow],
    ) -> None:
        super().__init__(codec, index, reader, writer.state.generation)
        self._writer = writer
        self._worker = worker
        self._slots = list(slots)
        self._order = Order(worker, self._begin, partial(_append, writer), self._publish)
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds tasks only weakly
        self._placing: asyncio.Task[None] | None = None
        self._due: asyncio.TimerHandle | None = None
        self._wrote = 0.0  # the loop's time of the last write

    async def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> None:
        """See Keychain. Of two entries with one target the last counts."""
        targets, texts = [entry[0] for entry in entries], [entry[1] for entry in entries]
        require_names(service, targets, attributes)
        values = dict(zip(targets, encoded(texts), strict=True))
        if not values:
            return
        name = program.encode("utf-8", "backslashreplace").decode()  # a file name need not be UTF-8
        batch = Batch(service, values, dict(attributes) or None, name)
        if max(map(len, values.values())) <= _LONGEST:
            await self._order.write(batch)
        else:
            await self._in_turn(partial(self._write, batch))

    async def _write(self, batch: Batch) -> None:
        """With its rows, in one transaction."""
        self._begin(batch)
        await self._change(partial(self._writer.write, batch), partial(self._index.put, batch.service))

    def _begin(self, batch: Batch) -> None:
        """Its turn has come. Raises KeychainError."""
        if self._closed:
            raise is_closed()
        batch.known = self._index.shelf(batch.service).records  # nobody else changes it while this batch is on its way

    def _publish(self, batches: Sequence[Batch], records: Sequence[list[Record]]) -> None:
        """What a transaction of ``order`` made durable is to be seen."""
        for batch, found in zip(batches, records, strict=True):
            self._index.put(batch.service, found)
        self._generation = self._writer.state.generation
        self._place_later()

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

    async def history(self, service: str, target: str) -> list[Version]:
        """The present value's version (number 0) if there is one, then the earlier ones, the newest first.

        Raises VaultDamaged if one of them was altered, KeychainError if a row cannot be made that waits.
        """
        await self.place_all()
        if self._closed:
            raise is_closed()
        row_id = self._codec.row_id(service, target)
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
            raise altered(service, target)
        context = context_of(row_id, generation)
        try:
            name, value = self._codec.open_name(sealed_name, context), self._codec.open_bytes(blob, context)
        except (NotAuthentic, Damage):
            raise altered(service, target) from None
        return Version(number, name.modified, name.program, name.attributes), value

    async def restore_value(self, service: str, target: str, number: int, program: str = "") -> None:
        """Write the earlier value ``number`` (as ``history`` counts) again; what it replaces becomes an earlier one.

        Raises NotFound.
        """
        await self._in_turn(partial(self._restore_value, service, target, number, program))

    async def _restore_value(self, service: str, target: str, number: int, program: str) -> None:
        row_id = self._codec.row_id(service, target)
        await self._place(self._writer.waiting_rows)
        rows = self._reader.past(row_id)
        if not 1 <= number <= len(rows):
            raise NotFound(
                f"{service} {target} has no earlier value number {number}",
                hint=f"keychain-auth history {quoted(service)} {quoted(target)}",
            )
        version, value = self._version(service, target, row_id, number, rows[number - 1])
        await self._write(Batch(service, {target: value}, version.attributes, program))

    async def forget(self, service: str, target: str) -> None:
        """Drop the earlier values of one target."""
        row_id = self._codec.row_id(service, target)
        await self._in_turn(lambda: self._change(partial(self._writer.forget, row_id), lambda _: None))

    # --- its own rows, its slots ---------------------------------------------------------------

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

    # --- one after the other --------------------------------------------------------------------

    async def _in_turn(self, change: Callable[[], Awaitable[None]]) -> None:
        """Run ``change`` alone, in a task of its own: cancelling the caller must not tear it apart."""
        task = asyncio.get_running_loop().create_task(self._alone(change))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _alone(self, change: Callable[[], Awaitable[None]]) -> None:
        async with self._order:
            if self._closed:
                raise is_closed()
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

    # --- rows of what is durable already ----------------------------------------------------------

    async def place_all(self) -> None:
        """Have the rows of all writes that have returned. Raises KeychainError."""
        if self._writer.waiting_rows:
            await self._in_turn(lambda: self._place(self._writer.waiting_rows))

    async def _place(self, most: int) -> None:
        if most:
            await self._change(partial(self._writer.place, most), lambda _: None)

    def _place_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._wrote = loop.time()
        if self._placing is not None:
            return
        if self._writer.waiting_rows > _MANY:
            self._place_now()
        elif self._due is None:
            self._due = loop.call_later(_QUIET_SECONDS, self._place_if_quiet)

    def _place_if_quiet(self) -> None:
        self._due = None
        loop = asyncio.get_running_loop()
        quiet = loop.time() - self._wrote
        if quiet < _QUIET_SECONDS:
            self._due = loop.call_later(_QUIET_SECONDS - quiet + 0.01, self._place_if_quiet)
        elif self._placing is None:
            self._place_now()

    def _place_now(self) -> None:
        self._placing = asyncio.get_running_loop().create_task(self._place_in_parts())

    async def _place_in_parts(self) -> None:
        """All that waits, in parts, between which others have their turn."""
        try:
            while self._writer.waiting_rows:
                await self._in_turn(lambda: self._place(_AT_ONCE))
            await self._in_turn(lambda: self._change(self._writer.checkpoint, lambda _: None))
        except KeychainError:
            pass  # what waits is durable, and tried again; whoever makes another change is told
        finally:
            self._placing = None

    def _stop_placing(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


def _append(writer: Writer, batches: Sequence[Batch]) -> list[list[Record]]:
    return writer.append(batches)
