"""What is in memory: for each service its targets, sorted, and the *encrypted* values.

Contract: a look-up is one dict access; a prefix is two bisections and a slice. Names are in the clear here (a search
must be quick); values are not: they stay sealed until one answer needs them. Values above 4 KiB stay on disk.

The index is used from one thread only, and holds no more than what is committed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from keychain_auth.crypto.aead import OVERHEAD

INLINE_BYTES = 4096 + OVERHEAD
"""The longest sealed value that is kept in memory."""

# Inserting into a sorted list moves half of it each time; sorting an almost sorted list costs one pass.
_FEW = 8
_HIDDEN = "\0"  # how the names of the vault's own rows begin (``format.OWN_SERVICE``)
_LAST_CHARACTER = 0x10FFFF


class Record(msgspec.Struct, frozen=True, gc=False):
    """One secret in memory. ``blob`` is None when it must be fetched from disk.

    ``context`` is what the blob is bound to (row id and generation). ``attributes`` are None when there are none.
    """

    target: str
    context: bytes
    blob: bytes | None
    attributes: dict[str, str] | None


class Shelf:
    """One service's records: by target, and the targets in order (by code point)."""

    __slots__ = ("order", "records")

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.order: list[str] = []

    def put(self, records: Sequence[Record]) -> None:
        """Add or replace."""
        new = [record.target for record in records if record.target not in self.records]
        self.records.update((record.target, record) for record in records)
        if len(new) <= _FEW:
            for target in new:
                insort(self.order, target)
        else:
            self.order.extend(new)
            self.order.sort()

    def drop(self, targets: Sequence[str]) -> None:
        """Remove; all of them are there."""
        for target in targets:
            del self.records[target]
        if len(targets) <= _FEW:
            for target in targets:
                del self.order[bisect_left(self.order, target)]
        else:
            self.order = [target for target in self.order if target in self.records]

    def beginning_with(self, prefixes: Iterable[str]) -> list[Record]:
        """The records under any of ``prefixes``, each once, sorted by target."""
        records, order = self.records, self.order
        found: list[Record] = []
        for prefix in _disjoint(prefixes):
            start = bisect_left(order, prefix)
            beyond = _successor(prefix)
            end = len(order) if beyond is None else bisect_left(order, beyond, start)
            found += [records[target] for target in order[start:end]]
        return found


_NOTHING = Shelf()  # never written to: stands for a service that does not exist


class Index:
    """All services."""

    __slots__ = ("_shelves",)

    def __init__(self) -> None:
        self._shelves: dict[str, Shelf] = {}

    def shelf(self, service: str) -> Shelf:
        """The service's shelf, for reading; an empty one if there is no such service."""
        return self._shelves.get(service, _NOTHING)

    def services(self) -> list[str]:
        """All services, sorted; not the vault's own."""
        return sorted(service for service in self._shelves if not service.startswith(_HIDDEN))

    def __len__(self) -> int:
        return sum(len(shelf.order) for service, shelf in self._shelves.items() if not service.startswith(_HIDDEN))

    def put(self, service: str, records: Sequence[Record]) -> None:
        """Add or replace records of one service."""
        if records:
            self._shelves.setdefault(service, Shelf()).put(records)

    def drop(self, service: str, targets: Sequence[str]) -> None:
        """Remove targets that are there; a service without any is gone."""
        shelf = self.shelf(service)
        shelf.drop(targets)
        if not shelf.order:
            self._shelves.pop(service, None)


def matches(record: Record, attributes: Mapping[str, str]) -> bool:
    """True if the record has every given pair."""
    own = record.attributes
    if own is None:
        return not attributes
    return all(own.get(name) == value for name, value in attributes.items())


def _disjoint(prefixes: Iterable[str]) -> list[str]:
    """``prefixes`` sorted, without those that another one covers: their ranges follow each other."""
    kept: list[str] = []
    for prefix in sorted(prefixes):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept


def _successor(prefix: str) -> str | None:
    """The smallest string above everything that begins with ``prefix``; None if there is none."""
    stem = prefix.rstrip(chr(_LAST_CHARACTER))
    return stem[:-1] + chr(ord(stem[-1]) + 1) if stem else None
