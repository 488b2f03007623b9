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

import msgspec

from keychain_auth.crypto.aead import NotAuthentic
from keychain_auth.keychain.vault.format import Codec, Damage, State, context_of

KEEP = 3
GONE_KEPT = 1000

_MOVE = (
    "INSERT INTO history (id, generation, name, value, gone)"
    " SELECT id, generation, name, value, ? FROM secrets WHERE id = ?"
)
_OF_TARGET = "SELECT generation FROM history WHERE id = ? ORDER BY generation DESC LIMIT -1 OFFSET ?"
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

    def replaced(self, db: sqlite3.Connection, state: State, row_id: bytes, generation: int) -> State:
        """Put the present row ``row_id`` aside: it is about to be overwritten."""
        if not self.keep:
            return state
        return self._drop_old(db, self._moved(db, state, row_id, generation, None), row_id)

    def deleted(self, db: sqlite3.Connection, state: State, row_id: bytes, generation: int, now: int) -> State:
        """Put the present row aside: it is about to be deleted, in transaction ``now``."""
        if not self.keep:
            return state
        state = self._drop_old(db, self._moved(db, state, row_id, generation, now), row_id)
        db.execute("UPDATE history SET gone = ? WHERE id = ?", (now, row_id))
        longest = db.execute(_LONGEST_GONE, (GONE_KEPT,)).fetchall()
        return self._dropped(db, state, longest)

    def came_back(self, db: sqlite3.Connection, row_id: bytes) -> None:
        """A target that was not there is written (again): its earlier values are no longer those of a deleted one."""
        db.execute("UPDATE history SET gone = NULL WHERE id = ? AND gone IS NOT NULL", (row_id,))

    def forgotten(self, db: sqlite3.Connection, state: State, row_id: bytes) -> State:
        """Drop every earlier value of one target."""
        rows = db.execute("SELECT id, generation FROM history WHERE id = ?", (row_id,)).fetchall()
        return self._dropped(db, state, rows)

    def emptied(self, db: sqlite3.Connection, state: State) -> State:
        """Drop all earlier values of all targets."""
        db.execute("DELETE FROM history")
        return State(state.generation, state.count, state.members)

    def is_same(
        self, old: tuple[object, object], context: bytes, value: bytes, attributes: dict[str, str] | None
    ) -> bool:
        """Whether the present row (its name and value blobs) says what is to be written anyway.

        A row that does not open is not the same: writing it anew is how a person mends it.
        """
        name, blob = old
        if not (isinstance(name, bytes) and isinstance(blob, bytes)):
            return False
        try:
            return (
                self._codec.open_bytes(blob, context) == value
                and self._codec.open_name(name, context).attributes == attributes
            )
        except (NotAuthentic, Damage):
            return False

    def _moved(self, db: sqlite3.Connection, state: State, row_id: bytes, generation: int, gone: int | None) -> State:
        db.execute(_MOVE, (gone, row_id))
        member = self._codec.past_member(context_of(row_id, generation))
        return _with_past(state, state.past_count + 1, state.past_members ^ member)

    def _drop_old(self, db: sqlite3.Connection, state: State, row_id: bytes) -> State:
        too_old = db.execute(_OF_TARGET, (row_id, self.keep)).fetchall()
        return self._dropped(db, state, [(row_id, generation) for (generation,) in too_old])

    def _dropped(self, db: sqlite3.Connection, state: State, rows: list[tuple[bytes, int]]) -> State:
        for row_id, generation in rows:
            db.execute("DELETE FROM history WHERE id = ? AND generation = ?", (row_id, generation))
            member = self._codec.past_member(context_of(row_id, generation))
            state = _with_past(state, state.past_count - 1, state.past_members ^ member)
        return state


def _with_past(state: State, count: int, members: int) -> State:
    return State(state.generation, state.count, state.members, count, members)
