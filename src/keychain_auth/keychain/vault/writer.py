"""The one writer of a vault's file.

Contract:
* It lives in one thread. A transaction is durable when its method returns (WAL with
  ``synchronous=FULL``: the log is fsynced at each commit) and rolled back when it raises. ``Writer.state``
  changes only after a commit.
* Errors are those of ``database``.

What it does not promise: that a deleted secret's ciphertext is gone from the disk. ``secure_delete`` zeroes it in
the database; the log, the file system and the drive may keep older copies. They are ciphertext.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from keychain_auth.crypto.aead import scrub_stack
from keychain_auth.errors import VaultDamaged, VaultError
from keychain_auth.keychain.vault import rekey
from keychain_auth.keychain.vault.database import ERRORS, connect, failure
from keychain_auth.keychain.vault.format import (
    FORMAT,
    MAX_GENERATION,
    OWN_SERVICE,
    Codec,
    Damage,
    Row,
    SlotRow,
    State,
    context_of,
)
from keychain_auth.keychain.vault.history import KEEP, History, select
from keychain_auth.keychain.vault.index import Record
from keychain_auth.keychain.vault.migrate import migrate

# A retry never uses the number of an attempt that failed or was cut off, even in another process: what such an
# attempt left in the log must not fit the rows of the retry. Hence the gaps; 2^39 transactions still fit.
_GAP_BYTES = 3

_UPSERT = (
    "INSERT INTO secrets (id, name, value, generation) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
    " SET name = excluded.name, value = excluded.value, generation = excluded.generation"
)
_PRESENT = "SELECT id, generation, name, value FROM secrets WHERE id IN (%s)"


class Writer:
    """The only one that writes. All methods but the constructor run in one and the same thread."""

    def __init__(self, path: str, codec: Codec, state: State) -> None:
        self._path = path
        self._codec = codec
        self._history = History(codec, KEEP)
        self._db: sqlite3.Connection | None = None
        self._last_generation = state.generation
        self.state = state

    def open(self) -> None:
        """Connect, if not connected. Raises KeychainError."""
        try:
            self._connection()
        except sqlite3.Error as error:
            raise failure(error, "open", self._path) from error

    def prepare(self, version: int, keep: int = KEEP) -> None:
        """Before the first change: bring a file of format ``version`` to ours, drop a history that is not wanted.

        ``keep``: how many earlier values of a target stay from now on.
        """
        self._history.keep = keep
        forget = self._history.keep == 0 and self.state.past_count > 0
        if version == FORMAT and not forget:
            return

        def change(db: sqlite3.Connection) -> State:
            migrate(db, version)
            return self._history.emptied(db, self.state) if forget else self.state

        self._transaction(change)

    def write(
        self,
        service: str,
        entries: Mapping[str, bytes],
        attributes: dict[str, str] | None,
        program: str = "",
        known: Mapping[str, bytes] = {},
    ) -> list[Record]:
        """Store ``entries`` (target: value) in one transaction; what is now to be known of them.

        ``known``: row ids of some of the targets, where somebody knows them already.
        """
        generation = self._next_generation()
        rows = self._codec.seal_rows(service, entries, attributes, generation, program, known)

        def change(db: sqlite3.Connection) -> State:
            return _numbered(self._replace(self.state, db, rows, list(entries.values())), generation)

        self._transaction(change)
        return [row.record for row in rows]

    def delete(self, row_ids: Sequence[bytes]) -> None:
        """Remove rows in one transaction."""
        generation = self._next_generation()

        def change(db: sqlite3.Connection) -> State:
            state, doomed = self.state, []
            for row_id in dict.fromkeys(row_ids):
                old = self._present(state, db, row_id)
                if old is not None:
                    state = self._without(state, row_id, old[0])
                    doomed.append((row_id, old[0]))
            state = self._history.deleted(db, state, doomed, generation)
            db.executemany("DELETE FROM secrets WHERE id = ?", [(row_id,) for row_id, _ in doomed])
            return _numbered(state, generation)

        self._transaction(change)

    def forget(self, row_id: bytes) -> None:
        """Drop the earlier values of one target."""
        generation = self._next_generation()
        self._transaction(lambda db: _numbered(self._history.forgotten(db, self.state, row_id), generation))

    def keep(self, own: Mapping[str, bytes | None], slots: Sequence[SlotRow] | None = None) -> list[Record]:
        """Store rows of the vault's own (None: remove), and with ``slots`` all key slots anew, in one transaction.

        Returns what is now to be known of the rows that were stored. They have no earlier values.
        """
        generation = self._next_generation()
        stored = {name: value for name, value in own.items() if value is not None}
        rows = [self._codec.seal_row(OWN_SERVICE, name, value, generation) for name, value in stored.items()]

        def change(db: sqlite3.Connection) -> State:
            state = self.state
            for row_id in (self._codec.row_id(OWN_SERVICE, name) for name in own):
                old = self._present(state, db, row_id)
                if old is not None:
                    state = self._without(state, row_id, old[0])
                    db.execute("DELETE FROM secrets WHERE id = ?", (row_id,))
            for row in rows:
                state = rekey.inserted(db, self._codec, state, row)
            rekey.replace_slots(db, slots)
            return _numbered(state, generation)

        self._transaction(change)
        return [row.record for row in rows]

    def rekey(self, codec: Codec, own: Mapping[str, bytes], slots: Sequence[SlotRow]) -> dict[str, list[Record]]:
        """Every row sealed anew by ``codec``, ``own`` rows and ``slots`` replaced, in one transaction.

        Returns what is now to be known of every row, by service. Raises VaultDamaged if a row does not authenticate:
        then nothing has changed. Needs room for every row once more.
        """
        generation = self._next_generation()
        records: dict[str, list[Record]] = {}

        def change(db: sqlite3.Connection) -> State:
            state = rekey.rewritten(db, self._codec, codec, own, generation, records)
            rekey.replace_slots(db, slots)
            return state

        try:
            self._transaction(change, codec)
        except Damage as damage:
            raise VaultDamaged(f"{self._path} is damaged: {damage}; it was not rekeyed") from None
        self._codec.wipe()
        self._codec, self._history = codec, History(codec, self._history.keep)
        return records

    def shorten(self) -> None:
        """Empty the log into the file, so that no older row is left in it; may not succeed while others read."""
        with contextlib.suppress(sqlite3.Error):
            self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Disconnect; as the last connection this also empties the write-ahead log. The thread's last act."""
        scrub_stack()
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _next_generation(self) -> int:
        self._last_generation += 1 + int.from_bytes(os.urandom(_GAP_BYTES), "big")
        if self._last_generation > MAX_GENERATION:
            raise VaultError(f"{self._path} has no transaction numbers left", hint="keychain-auth status")
        return self._last_generation

    def _replace(self, state: State, db: sqlite3.Connection, rows: Sequence[Row], values: Sequence[bytes]) -> State:
        """Put each of ``rows`` (whose plain values are ``values``) in the place of the one that is there, if one is.

        All are looked at before any is changed: the statements of one kind then run in one call each.
        """
        count, members, member = state.count, state.members, self._codec.member
        new, aside = [], []
        there = {old[0]: old[1:] for old in select(db, _PRESENT, [row.row_id for row in rows])}
        for row, value in zip(rows, values, strict=True):
            old = self._checked(state, there.get(row.row_id))
            members ^= member(row.record.context)
            if old is None:
                count += 1
                new.append(row.row_id)
                continue
            generation, name, blob = old
            context = context_of(row.row_id, generation)
            members ^= member(context)
            if not self._history.is_same((name, blob), context, value, row.record.attributes):
                aside.append((row.row_id, generation))
        self._history.came_back(db, state, new)
        state = self._history.replaced(db, state, aside)
        db.executemany(_UPSERT, [(row.row_id, row.name, row.value, row.generation) for row in rows])
        return msgspec.structs.replace(state, count=count, members=members)

    def _present(self, state: State, db: sqlite3.Connection, row_id: bytes) -> tuple[int, object, object] | None:
        """(generation, name, value) of the row that is there. Raises VaultDamaged."""
        found = select(db, _PRESENT, [row_id])
        return self._checked(state, found[0][1:] if found else None)

    def _checked(self, state: State, old: tuple[Any, ...] | None) -> tuple[int, object, object] | None:
        """``old``, (generation, name, value), if its number can be a row's. Raises VaultDamaged."""
        if old is not None and not (isinstance(old[0], int) and 0 < old[0] <= state.generation):
            raise VaultDamaged(f"{self._path} was altered while in use: a row has a number that was never given")
        return old

    def _without(self, state: State, row_id: bytes, generation: int) -> State:
        """``state`` less the present row ``row_id``."""
        member = self._codec.member(context_of(row_id, generation))
        return msgspec.structs.replace(state, count=state.count - 1, members=state.members ^ member)

    def _transaction(self, change: Callable[[sqlite3.Connection], State], codec: Codec | None = None) -> None:
        """Apply ``change`` and the state that it returns (sealed by ``codec``): all of it durable, or nothing."""
        try:
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            state = change(db)
            sealed = (codec or self._codec).seal_state(state)
            db.execute("UPDATE meta SET value = ? WHERE name = 'state'", (sealed,))
            db.execute("COMMIT")
        except ERRORS as error:
            self._undo()
            raise failure(error, "write", self._path) from None
        except BaseException:
            self._undo()
            raise
        self.state = state

    def _undo(self) -> None:
        """Roll back. A connection that cannot even do that is dropped: the next write opens another."""
        try:
            # After SQLITE_FULL, IOERR and NOMEM SQLite may have rolled back by itself already.
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            db = connect(self._path, "mode=rw")
            try:
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                    db.execute(f"PRAGMA {pragma}")
            except sqlite3.Error:
                db.close()
                raise
            self._db = db
        return self._db


def _numbered(state: State, generation: int) -> State:
    return msgspec.structs.replace(state, generation=generation)
