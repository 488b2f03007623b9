"""What is in memory: for each service its targets, sorted, and the *encrypted* values.

Contract: a look-up is one dict access; a prefix is two bisections and a slice. Names are in the clear here (a search
must be quick); values are not: they stay sealed until one answer needs them. Values above 4 KiB stay on disk.

The index is used from one thread only, and holds no more than what is committed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from itertools import filterfalse
from operator import attrgetter
from weakref import WeakSet

import msgspec

from keychain_auth.crypto.aead import OVERHEAD

INLINE_BYTES = 4096 + OVERHEAD
"""The longest sealed value that is kept in memory."""
VIEWED_AT_ONCE = 64
"""Records that are looked up at once; more of them when they are needed."""

# Inserting into a sorted list moves half of it each time; sorting an almost sorted list costs one pass.
_FEW = 8
_target_of = attrgetter("target")
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

    __slots__ = ("_views", "order", "records")

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.order: list[str] = []
        self._views: WeakSet[View] = WeakSet()

    def put(self, records: Sequence[Record]) -> None:
        """Add or replace."""
        self._settle_views()
        targets = list(map(_target_of, records))
        new = list(filterfalse(self.records.__contains__, targets))
        self.records.update(zip(targets, records, strict=True))
        if len(new) <= _FEW:
            for target in new:
                insort(self.order, target)
        else:
            self.order.extend(new)
            self.order.sort()

    def drop(self, targets: Sequence[str]) -> None:
        """Remove; all of them are there."""
        self._settle_views()
        for target in targets:
            del self.records[target]
        if len(targets) <= _FEW:
            for target in targets:
                del self.order[bisect_left(self.order, target)]
        else:
            self.order = [target for target in self.order if target in self.records]

    def beginning_with(self, prefixes: Iterable[str]) -> View:
        """The records under any of ``prefixes``, each once, sorted by target, as they are now."""
        order = self.order
        found: list[str] = []
        for prefix in _disjoint(prefixes):
            start = bisect_left(order, prefix)
            beyond = _successor(prefix)
            end = len(order) if beyond is None else bisect_left(order, beyond, start)
            found += order[start:end]
        view = View(self.records, found)
        if len(found) > VIEWED_AT_ONCE:
            self._views.add(view)
        else:
            view.settle()
        return view

    def _settle_views(self) -> None:
        """Before a change: whoever looks at this shelf goes on to see it as it was."""
        for view in self._views:
            view.settle()
        self._views.clear()


class View:
    """Records of a shelf as they were when it was made, looked up when they are taken.

    Why: to look up 10,000 at once takes half a millisecond, and everybody would wait for it.
    """

    __slots__ = ("__weakref__", "_names", "_records", "_settled")

    def __init__(self, records: dict[str, Record], names: list[str]) -> None:
        self._names = names
        self._records = records
        self._settled: list[Record] | None = None

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, places: slice) -> list[Record]:
        if self._settled is not None:
            return self._settled[places]
        return [self._records[name] for name in self._names[places]]

    def settle(self) -> None:
        """Look up all, because the shelf is about to change."""
        self._settled = [self._records[name] for name in self._names]


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
