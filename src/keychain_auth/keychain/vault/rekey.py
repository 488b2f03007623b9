"""Rows under a new vault key: each opened with the old codec and sealed with the new one, its time and history kept.

Everything here runs inside one transaction of ``writer.Writer``, in its thread: after a crash the file is wholly under
the old key or wholly under the new one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from keychain_auth.keychain.vault.format import OWN_SERVICE, Codec, Damage, Row, SlotRow, State, context_of
from keychain_auth.keychain.vault.index import Record

_AT_ONCE = 500
_INSERT = "INSERT INTO secrets (id, name, value, generation) VALUES (?, ?, ?, ?)"
_INSERT_PAST = "INSERT INTO history (id, generation, name, value, gone) VALUES (?, ?, ?, ?, ?)"
_SOME = "SELECT rowid, id, name, value, generation, NULL FROM secrets WHERE rowid > ? AND rowid <= ?"
_SOME_PAST = "SELECT rowid, id, name, value, generation, gone FROM history WHERE rowid > ? AND rowid <= ?"
_IN_ORDER = " ORDER BY rowid LIMIT ?"


def rewritten(
    db: sqlite3.Connection,
    old: Codec,
    new: Codec,
    own: Mapping[str, bytes],
    generation: int,
    records: dict[str, list[Record]],
) -> State:
    """Put every row under the codec ``new``, and ``own`` in the place of the vault's own rows of these names.

    ``records`` is filled with what is now to be known, by service. Returns the state that then holds. Raises Damage,
    sqlite3.Error.
    """
    state = State(generation, 0, 0)
    last = _last(db, "secrets")
    for row, _ in _resealed(db, _SOME, last, old, new):
        if row.service == OWN_SERVICE and row.record.target in own:
            continue
        state = inserted(db, new, state, row)
        records.setdefault(row.service, []).append(row.record)
    db.execute("DELETE FROM secrets WHERE rowid <= ?", (last,))
    for name, value in own.items():
        row = new.seal_row(OWN_SERVICE, name, value, generation)
        state = inserted(db, new, state, row)
        records.setdefault(row.service, []).append(row.record)
    return _rewritten_past(db, old, new, state)


def _rewritten_past(db: sqlite3.Connection, old: Codec, new: Codec, state: State) -> State:
    count = members = 0
    last = _last(db, "history")
    for row, gone in _resealed(db, _SOME_PAST, last, old, new):
        db.execute(_INSERT_PAST, (row.row_id, row.generation, row.name, row.value, gone))
        count += 1
        members ^= new.past_member(row.record.context)
    db.execute("DELETE FROM history WHERE rowid <= ?", (last,))
    return msgspec.structs.replace(state, past_count=count, past_members=members)


def _resealed(db: sqlite3.Connection, some: str, last: int, old: Codec, new: Codec) -> Iterator[tuple[Row, object]]:
    """The rows up to ``last`` as ``new`` seals them; their generations, and so their order, stay."""
    at = 0
    while found := db.execute(some + _IN_ORDER, (at, last, _AT_ONCE)).fetchall():
        at = found[-1][0]
        for _, row_id, name, value, generation, gone in found:
            if not (isinstance(name, bytes) and isinstance(value, bytes) and isinstance(generation, int)):
                raise Damage("a row does not hold what it must")
            yield new.reseal_row(old, name, value, context_of(row_id, generation), generation), gone


def _last(db: sqlite3.Connection, table: str) -> int:
    last: int = db.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").fetchone()[0]  # noqa: S608 - our constants
    return last


def inserted(db: sqlite3.Connection, codec: Codec, state: State, row: Row) -> State:
    """Insert ``row``; the state that counts it too."""
    db.execute(_INSERT, (row.row_id, row.name, row.value, row.generation))
    members = state.members ^ codec.member(row.record.context)
    return msgspec.structs.replace(state, count=state.count + 1, members=members)


def replace_slots(db: sqlite3.Connection, slots: Sequence[SlotRow] | None) -> None:
    """All key slots anew; with None they stay."""
    if slots is not None:
        db.execute("DELETE FROM slots")
        rows = [(slot.number, slot.kind, slot.params.decode(), slot.wrapped) for slot in slots]
        db.executemany("INSERT INTO slots VALUES (?, ?, ?, ?)", rows)
