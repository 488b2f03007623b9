"""What an open vault holds, and reading it: names and short values from memory, long values from the disk.

Contract (beyond ``keychain.base``):
* ``read_now``, ``search`` and ``services`` never suspend: a single ``send(None)`` finishes them. ``read`` and
  ``read_prefix`` suspend after every ``PART`` values, so that others have their turn; what they return is all of the
  moment in which they were called, or all of a later one. They
  see what is committed, and a write as soon as it has returned.
* A value that does not authenticate is VaultDamaged, which names service and target.
* A closed vault fails, and looks not empty.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence

from keychain_auth.crypto.aead import OVERHEAD, NotAuthentic
from keychain_auth.errors import KeychainError, VaultDamaged
from keychain_auth.keychain.budget import ANSWER_BYTES, Budget
from keychain_auth.keychain.vault.database import Reader
from keychain_auth.keychain.vault.format import OWN_SERVICE, Codec, Damage, context_of, generation_of, row_id_of
from keychain_auth.keychain.vault.index import Index, Record, Shelf, View, matches
from keychain_auth.model import Item

PART = 64
"""Values opened at once, in about a tenth of a millisecond."""


_SIZED_AT_ONCE = 500


class Reading:
    """``generation``: the last transaction that ``index`` shows."""

    def __init__(self, codec: Codec, index: Index, reader: Reader, generation: int) -> None:
        self.answer_bytes = ANSWER_BYTES
        self._codec = codec
        self._open_bytes = codec.open_bytes
        self._index = index
        self._reader = reader
        self._generation = generation
        self._changing = False  # the disk may be one transaction ahead of the index
        self._closed = False

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
                    raise altered(service, record.target) from None
        return self._revealed(service, self._named(service, targets), attributes)

    def _named(self, service: str, targets: Sequence[str]) -> list[Record]:
        records = self._shelf(service).records
        return [record for target in targets if (record := records.get(target)) is not None]

    async def read_prefix(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        return await self._in_parts(service, attributes, lambda: self._shelf(service).beginning_with(prefixes))

    async def _in_parts(
        self, service: str, attributes: Mapping[str, str], find: Callable[[], View | list[Record]]
    ) -> list[Item]:
        """What ``find`` finds, with values. What lies in memory stays as it was found, whatever is written meanwhile;
        a long value is read from the disk, so after a write that came in between all is found and read anew. So it is
        when all was sealed anew (a new vault key)."""
        records = find()
        if len(records) <= PART:
            return self._revealed(service, records[:], attributes)
        budget, generation, index = Budget(self.answer_bytes), self._generation, self._index
        items: list[Item] = []
        for at in range(0, len(records), PART):
            part = records[at : at + PART]
            if self._generation != generation and (
                self._index is not index or any(record.blob is None for record in part)
            ):
                return self._revealed(service, find()[:], attributes)
            items += self._revealed(service, part, attributes, budget)
            await asyncio.sleep(0)
            if self._closed:
                raise is_closed()
        return items

    async def search(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        found = self._shelf(service).beginning_with(prefixes or ("",))
        budget = Budget(self.answer_bytes)
        items = []
        for record in found[:]:
            if matches(record, attributes):
                budget.take(0, record.target, record.attributes)
                items.append(Item(record.target, None, record.attributes))
        return items

    async def services(self) -> list[str]:
        """See Keychain."""
        return self._index.services()

    async def stored(
        self, wanted: Callable[[str], bool], but: str = "", targets: Sequence[str] = ()
    ) -> tuple[int, int]:
        """Number and bytes (names, values, attributes) of the secrets of those services whose name is ``wanted``,
        without these ``targets`` of the service ``but``. Others have their turn meanwhile: what they write may be
        counted or not.
        """
        left_out = frozenset(targets)
        count = size = 0
        for service in self._index.services():
            if not wanted(service):
                continue
            records = list(self._index.shelf(service).records.values())
            if service == but:
                records = [record for record in records if record.target not in left_out]
            count += len(records)
            for at in range(0, len(records), _SIZED_AT_ONCE):
                size += sum(map(self._size, records[at : at + _SIZED_AT_ONCE]))
                await asyncio.sleep(0)
                if self._closed:
                    raise is_closed()
        return count, size

    def _size(self, record: Record) -> int:
        blob = record.blob
        length = self._reader.length(row_id_of(record.context)) if blob is None else len(blob)
        size = max(0, length - OVERHEAD) + len(record.target.encode())
        if record.attributes is not None:
            size += sum(len(text.encode()) for pair in record.attributes.items() for text in pair)
        return size

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
                raise altered(service, record.target) from None
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
                raise altered(service, target) from None
        budget.left = left
        return items

    def _from_disk(self, service: str, record: Record, attributes: Mapping[str, str]) -> Item | None:
        """A long value. While a change is under way the disk may already show what the index will show next."""
        row_id = row_id_of(record.context)
        row = self._reader.row(row_id)
        if row is None:
            if self._changing:
                return None
            raise altered(service, record.target)
        sealed_name, blob, generation = row
        if not (isinstance(sealed_name, bytes) and isinstance(blob, bytes) and isinstance(generation, int)):
            raise altered(service, record.target)
        try:
            if generation != generation_of(record.context):
                if not (self._changing and generation > self._generation):
                    raise altered(service, record.target)
                context = context_of(row_id, generation)
                name = self._codec.open_name(sealed_name, context)
                record = Record(record.target, context, None, name.attributes)
                if not matches(record, attributes):
                    return None
            return Item(record.target, self._open_bytes(blob, record.context).decode(), record.attributes)
        except (NotAuthentic, Damage):
            raise altered(service, record.target) from None

    # --- the vault's own rows ---------------------------------------------------------------------

    def own(self, name: str) -> str | None:
        """A row of the vault's own (``format.OWN_…``), None if it is not there. Raises KeychainError."""
        found = self._index.shelf(OWN_SERVICE).records.get(name)
        items = [] if found is None else self._revealed(OWN_SERVICE, [found], {})
        return items[0].value if items else None


class ClosedIndex(Index):
    """A closed vault must not look like an empty one."""

    __slots__ = ()

    def shelf(self, service: str) -> Shelf:
        raise is_closed()

    def services(self) -> list[str]:
        raise is_closed()


def is_closed() -> KeychainError:
    """What every operation of a closed vault raises."""
    return KeychainError("the vault is closed", hint="keychain-auth start")


def altered(service: str, target: str) -> VaultDamaged:
    """What reading a value raises that is not as it was stored."""
    return VaultDamaged(
        f"the stored value of {target!r} in service {service!r} does not authenticate",
        hint="restore the vault from a backup, or write this secret anew",
    )
