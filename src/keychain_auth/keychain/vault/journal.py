"""Writes that are durable before their rows are made: the entries of the table ``journal``.

Contract:
* An entry is one whole batch in one sealed blob, under a transaction number of its own. It is there whole or not at
  all, and what is in it is what its rows will be: the same numbers, the same sealed values, the same time and program.
* ``placed`` makes the rows of entries, in the order in which they were written. What then holds, in the present rows
  and in the history, is what it would be had each been placed when it was written.

Why: the rows of a batch, with their earlier values, are 15 µs of work each, and pages all over the file. Of the entry
it is one blob, at the table's end, and the caller waits for no more than that.

What it does not promise: values above 4 KiB (``INLINE_BYTES``). They lie on the disk only, in their rows; so they are
placed at once, and need no entry.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec

from keychain_auth.errors import VaultDamaged
from keychain_auth.keychain.vault.format import GENERATION_BYTES, Codec, Damage, Name, State, context_of
from keychain_auth.keychain.vault.history import History
from keychain_auth.keychain.vault.index import INLINE_BYTES, Record
from keychain_auth.keychain.vault.parts import in_parts, one_by_one, run_many, select

_PRESENT = "SELECT id, generation, name, value FROM secrets WHERE id IN (%s)"
_UPSERT = (
    "INSERT INTO secrets (id, name, value, generation) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
    " SET name = excluded.name, value = excluded.value, generation = excluded.generation"
)


class Batch(msgspec.Struct, gc=False):
    """One write as it was asked for. ``known``: the records of its service, by target, which know their row ids."""

    service: str
    values: Mapping[str, bytes]
    attributes: dict[str, str] | None = None
    program: str = ""
    known: Mapping[str, Record] = {}


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A batch, sealed, whose rows are to be made: target, context and value blob of each."""

    generation: int
    service: str
    attributes: dict[str, str] | None
    modified: int
    program: str
    targets: list[str]
    contexts: list[bytes]
    blobs: list[bytes]

    @property
    def row_ids(self) -> list[bytes]:
        """The row id of each."""
        return [context[:-GENERATION_BYTES] for context in self.contexts]

    @property
    def rows(self) -> Iterable[tuple[str, bytes, bytes]]:
        """Target, row id and value blob of each."""
        return zip(self.targets, self.row_ids, self.blobs, strict=True)

    def name(self, target: str) -> Name:
        """What the name blob of a row says."""
        return Name(self.service, target, self.attributes, self.modified, self.program)

    def records(self) -> list[Record]:
        """What is to be known of its rows in memory."""
        kept: list[bytes | None] = list(self.blobs)
        if max(map(len, self.blobs)) > INLINE_BYTES:
            kept = [blob if len(blob) <= INLINE_BYTES else None for blob in self.blobs]
        return list(map(Record, self.targets, self.contexts, kept, repeat(self.attributes)))


_Version = tuple[Entry, str, bytes, bytes]
"""A row to be made: its entry, and its target, context and value blob there."""


class _Written(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The plaintext of an entry's blob."""

    service: str
    attributes: dict[str, str] | None
    modified: int
    program: str
    targets: list[str]
    values: list[bytes]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Written).decode


def sealed(codec: Codec, batch: Batch, generation: int) -> Entry:
    """``batch`` as it is written in transaction ``generation``. Raises UnicodeEncodeError."""
    find, service, tail = batch.known.get, batch.service, context_of(b"", generation)
    targets = list(batch.values)
    contexts = [
        (codec.row_id(service, target) if (record := find(target)) is None else record.context[:-GENERATION_BYTES])
        + tail
        for target in targets
    ]
    blobs = codec.seal_values(list(batch.values.values()), contexts)
    return Entry(generation, service, batch.attributes, int(time.time()), batch.program, targets, contexts, blobs)


def to_blob(codec: Codec, entry: Entry) -> bytes:
    """The entry as it goes into the table."""
    written = _Written(
        entry.service, entry.attributes, entry.modified, entry.program, entry.targets, entry.blobs
    )  # fmt: skip
    return codec.seal_batch(_encode(written), entry.generation)


def from_blob(codec: Codec, blob: bytes, generation: int) -> Entry:
    """The entry of a row of the table. Raises Damage."""
    try:
        written = _decode(codec.open_batch(blob, generation))
        targets, blobs = written.targets, written.values
        contexts = [context_of(codec.row_id(written.service, target), generation) for target in targets]
    except (msgspec.DecodeError, ValueError):
        raise Damage("an entry of its journal does not hold what it must") from None
    if not targets or len(targets) != len(blobs):
        raise Damage("an entry of its journal does not hold what it must")
    return Entry(
        generation, written.service, written.attributes, written.modified, written.program, targets, contexts, blobs
    )


def read(codec: Codec, state: State, table: Sequence[tuple[object, ...]]) -> list[Entry]:
    """The entries of the whole table, oldest first; exactly those that ``state`` counts. Raises Damage."""
    entries, members = [], 0
    for generation, blob in table:
        if not (isinstance(generation, int) and 0 < generation <= state.generation and isinstance(blob, bytes)):
            raise Damage("an entry of its journal does not hold what it must")
        entries.append(from_blob(codec, blob, generation))
        members ^= codec.batch_member(generation)
    if (len(entries), members) != (state.waiting_count, state.waiting_members):
        raise Damage(
            f"{state.waiting_count} entries of its journal were committed, {len(entries)} are there, and they are not "
            "the same: some were removed, or brought back"
        )
    return entries


def placed(
    db: sqlite3.Connection, state: State, codec: Codec, history: History, entries: Sequence[Entry], path: str
) -> State:
    """Make the rows of ``entries`` (oldest first) in the transaction of ``db``; the state that then holds.

    All present rows are looked at before any is changed: the statements of one kind then run in one call each.
    Raises VaultDamaged, sqlite3.Error.
    """
    written: dict[bytes, list[_Version]] = {}
    for entry in entries:
        of_entry = zip(repeat(entry), entry.targets, entry.contexts, entry.blobs)
        for row_id, version in zip(entry.row_ids, of_entry, strict=True):
            written.setdefault(row_id, []).append(version)
    there = {old[0]: old[1:] for old in select(db, _PRESENT, list(written))}
    count, members, member, keep = state.count, state.members, codec.member, history.keep
    new: list[bytes] = []
    aside: list[tuple[bytes, int]] = []
    late: list[tuple[bytes, _Version]] = []
    last: list[tuple[bytes, _Version]] = []
    for row_id, versions in one_by_one(list(written.items())):
        old = checked(path, state, there.get(row_id))
        if old is None:
            count += 1
            new.append(row_id)
        else:
            members ^= member(context_of(row_id, old[0]))
        if keep and (old is not None or len(versions) > 1):
            for earlier in _earlier(history, row_id, old, versions):
                if earlier is not None:
                    late.append((row_id, earlier))
                elif old is not None:
                    aside.append((row_id, old[0]))
        last.append((row_id, versions[-1]))
    rows = _rows(codec, last)
    for _, (_, _, context, _) in one_by_one(last):
        members ^= member(context)
    history.came_back(db, state, new)
    state = history.replaced(db, state, aside, _rows(codec, late))
    run_many(db, _UPSERT, rows)
    return msgspec.structs.replace(state, count=count, members=members)


def _earlier(
    history: History,
    row_id: bytes,
    old: tuple[int, object, object] | None,
    versions: Sequence[_Version],
) -> list[_Version | None]:
    """Which of the present row (None) and ``versions`` another value replaced: the newest ``keep`` of them."""
    found: list[_Version | None] = []
    later, _, context, blob = versions[-1]
    for version in versions[-2::-1]:
        if len(found) == history.keep:
            return found
        entry, _, its, value = version
        if entry.attributes != later.attributes or not history.is_same_value(value, its, blob, context):
            found.append(version)
        later, blob, context = entry, value, its
    if old is None or len(found) == history.keep:
        return found
    if not history.is_same(old[1:], context_of(row_id, old[0]), blob, context, later.attributes):
        found.append(None)
    return found


def _rows(codec: Codec, versions: Sequence[tuple[bytes, _Version]]) -> list[tuple[bytes, bytes, bytes, int]]:
    """``versions`` as rows: id, name, value, generation."""
    names: list[bytes] = []
    for some in in_parts(versions):
        names += codec.seal_names(
            [entry.name(target) for _, (entry, target, _, _) in some], [context for _, (_, _, context, _) in some]
        )
    return [
        (row_id, name, blob, entry.generation)
        for (row_id, (entry, _, _, blob)), name in zip(versions, names, strict=True)
    ]


def present(db: sqlite3.Connection, path: str, state: State, row_id: bytes) -> tuple[int, object, object] | None:
    """(generation, name, value) of the row that is there. Raises VaultDamaged."""
    found = select(db, _PRESENT, [row_id])
    return checked(path, state, found[0][1:] if found else None)


def checked(path: str, state: State, old: tuple[Any, ...] | None) -> tuple[int, object, object] | None:
    """``old``, (generation, name, value), if its number can be a row's. Raises VaultDamaged."""
    if old is not None and not (isinstance(old[0], int) and 0 < old[0] <= state.generation):
        raise VaultDamaged(f"{path} was altered while in use: a row has a number that was never given")
    return old
