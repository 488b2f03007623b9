"""Changes of an open vault: in one thread, one transaction each, one after the other.

Contract:
* Cancelling the task that awaits a change does not undo it, nor leave memory and disk apart.
* A failed change leaves the vault as it was, and the vault lives on.
* Earlier values are kept with their time and program (``history``), and can be written again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from keychain_auth.crypto.aead import NotAuthentic
from keychain_auth.errors import NotFound, quoted
from keychain_auth.keychain.names import encoded, require_names
from keychain_auth.keychain.vault.database import Reader
from keychain_auth.keychain.vault.format import OWN_SERVICE, OWN_SLOTS, Codec, Damage, SlotRow, context_of, row_id_of
from keychain_auth.keychain.vault.history import Version
from keychain_auth.keychain.vault.index import Index, Record, matches
from keychain_auth.keychain.vault.reading import Reading, altered, is_closed
from keychain_auth.keychain.vault.slots import record_of
from keychain_auth.keychain.vault.writer import Writer

T = TypeVar("T")


class Changing(Reading):
    """``worker``: the thread of ``writer``."""

    def __init__(
        self,
        codec: Codec,
        index: Index,
        reader: Reader,
        writer: Writer,
        worker: ThreadPoolExecutor,
        slots: Sequence[SlotRow],
    ) -> None:
        super().__init__(codec, index, reader, writer.state.generation)
        self._writer = writer
        self._worker = worker
        self._slots = list(slots)
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds tasks only weakly

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
        present = self._index.shelf(service).records
        known = {target: row_id_of(present[target].context) for target in values if target in present}
        await self._change(
            partial(self._writer.write, service, values, attributes, program, known),
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
            raise is_closed()
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
        rows = self._reader.past(row_id)
        if not 1 <= number <= len(rows):
            raise NotFound(
                f"{service} {target} has no earlier value number {number}",
                hint=f"keychain-auth history {quoted(service)} {quoted(target)}",
            )
        version, value = self._version(service, target, row_id, number, rows[number - 1])
        await self._write(service, {target: value}, version.attributes, program)

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
        async with self._turn:
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
