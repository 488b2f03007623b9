"""Earlier values: the rows that a write or a delete put aside, so many for each target.

Contract:
* A row that is replaced or deleted moves into the table ``history`` as it is, still sealed to its target and its time,
  in the very transaction that replaces it.
* A target keeps its newest ``keep`` earlier values; with 0 nothing is kept. Writing again what is there already
  (value and attributes) is no new value.
* Deleted targets keep theirs too. Of those at most ``GONE_KEPT`` rows stay; the longest deleted go first.

What it does not promise: that a replaced or deleted value is gone. That is what ``keep`` 0, and ``forget``, are for.

Everything here runs inside a transaction of ``writer.Writer``, in its thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from keychain_auth.crypto.aead import NotAuthentic
from keychain_auth.keychain.vault.format import Codec, Damage, State, context_of
from keychain_auth.keychain.vault.parts import one_by_one, run_many, select

KEEP = 3
GONE_KEPT = 1000

_MOVE = (
    "INSERT INTO history (id, generation, name, value, gone)"
    " SELECT id, generation, name, value, ? FROM secrets WHERE id = ?"
)
_INSERT = "INSERT INTO history (id, name, value, generation) VALUES (?, ?, ?, ?)"
_OF_TARGETS = "SELECT id, generation FROM history WHERE id IN (%s) ORDER BY id, generation DESC"
_LONGEST_GONE = (
    "SELECT id, generation FROM history WHERE gone IS NOT NULL ORDER BY gone, generation"
    " LIMIT max(0, (SELECT count(*) FROM history WHERE gone IS NOT NULL) - ?)"
)


class Version(msgspec.Struct, frozen=True, gc=False):
    """One value that a target has or had, without it. ``number`` 0 is the present one, 1 the last before it.

    ``modified``: seconds since 1970. ``program``: the path of who wrote it, empty if that is not known.
    """

    number: int
    modified: int
    program: str
    attributes: dict[str, str] | None


class History:
    """The table ``history``. Every method that changes rows returns the state that then holds."""

    def __init__(self, codec: Codec, keep: int) -> None:
        self._codec = codec
        self.keep = keep

    def replaced(
        self,
        db: sqlite3.Connection,
        state: State,
        rows: Sequence[tuple[bytes, int]],
        late: Sequence[tuple[bytes, bytes, bytes, int]] = (),
    ) -> State:
        """Put the present ``rows`` (id, generation) aside: they are about to be overwritten.

        ``late``: rows (id, name, value, generation) that never were present, and follow them.
        """
        return self._moved(db, state, rows, None, late) if self.keep and (rows or late) else state

    def deleted(self, db: sqlite3.Connection, state: State, rows: Sequence[tuple[bytes, int]], now: int) -> State:
        """Put the present ``rows`` (id, generation) aside: they are about to be deleted, in transaction ``now``.

        All of them in one call: what is kept of deleted targets is counted each time.
        """
        if not self.keep or not rows:
            return state
        state = self._moved(db, state, rows, now)
        run_many(db, "UPDATE history SET gone = ? WHERE id = ?", [(now, row_id) for row_id, _ in rows])
        longest = db.execute(_LONGEST_GONE, (GONE_KEPT,)).fetchall()
        return self._dropped(db, state, longest)

    def came_back(self, db: sqlite3.Connection, state: State, ids: Sequence[bytes]) -> None:
        """Targets that were not there are written (again): their earlier values are no longer those of deleted ones."""
        if ids and state.past_count:
            gone = "UPDATE history SET gone = NULL WHERE id = ? AND gone IS NOT NULL"
            run_many(db, gone, [(row_id,) for row_id in ids])

    def forgotten(self, db: sqlite3.Connection, state: State, row_id: bytes) -> State:
        """Drop every earlier value of one target."""
        rows = db.execute("SELECT id, generation FROM history WHERE id = ?", (row_id,)).fetchall()
        return self._dropped(db, state, rows)

    def emptied(self, db: sqlite3.Connection, state: State) -> State:
        """Drop all earlier values of all targets."""
        db.execute("DELETE FROM history")
        return _with_past(state, 0, 0)

    def is_same(
        self,
        old: tuple[object, object],
        context: bytes,
        blob: bytes,
        context_of_blob: bytes,
        attributes: dict[str, str] | None,
    ) -> bool:
        """Whether the present row (its name and value blobs) says what is to be written anyway: ``blob``.

        A row that does not open is not the same: writing it anew is how a person mends it.
        """
        name, value = old
        if not (isinstance(name, bytes) and isinstance(value, bytes)):
            return False
        try:
            return (
                self.is_same_value(value, context, blob, context_of_blob)
                and self._codec.open_name(name, context).attributes == attributes
            )
        except Damage:
            return False

    def is_same_value(self, one: bytes, context: bytes, other: bytes, context_of_other: bytes) -> bool:
        """Whether two value blobs say the same; one that does not open says nothing."""
        if len(one) != len(other):
            return False
        try:
            return self._codec.open_bytes(one, context) == self._codec.open_bytes(other, context_of_other)
        except NotAuthentic:
            return False

    def _moved(
        self,
        db: sqlite3.Connection,
        state: State,
        rows: Sequence[tuple[bytes, int]],
        gone: int | None,
        late: Sequence[tuple[bytes, bytes, bytes, int]] = (),
    ) -> State:
        """Move ``rows`` here, add ``late``, and drop what is older than the newest ``keep`` of each."""
        members, member = state.past_members, self._codec.past_member
        run_many(db, _MOVE, [(gone, row_id) for row_id, _ in rows])
        run_many(db, _INSERT, late)
        added = [*rows, *((row[0], row[3]) for row in late)]
        for row_id, generation in one_by_one(added):
            members ^= member(context_of(row_id, generation))
        state = _with_past(state, state.past_count + len(added), members)
        too_old, of, kept = [], b"", 0
        for row_id, generation in select(db, _OF_TARGETS, list(dict.fromkeys(row_id for row_id, _ in added))):
            of, kept = row_id, kept + 1 if row_id == of else 1
            if kept > self.keep:
                too_old.append((row_id, generation))
        return self._dropped(db, state, too_old)

    def _dropped(self, db: sqlite3.Connection, state: State, rows: list[tuple[bytes, int]]) -> State:
        members, member = state.past_members, self._codec.past_member
        run_many(db, "DELETE FROM history WHERE id = ? AND generation = ?", rows)
        for row_id, generation in one_by_one(rows):
            members ^= member(context_of(row_id, generation))
        return _with_past(state, state.past_count - len(rows), members)


def _with_past(state: State, count: int, members: int) -> State:
    return msgspec.structs.replace(state, past_count=count, past_members=members)
