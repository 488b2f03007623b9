"""The one writer of a vault's file.

Contract:
* It lives in one thread. A transaction is durable when its method returns (WAL with
  ``synchronous=FULL``: the log is fsynced at each commit) and rolled back when it raises. ``Writer.state``
  changes only after a commit.
* ``append`` makes whole batches durable, each as an entry of the journal; ``place`` makes their rows later. Every other
  change first places all that waits, in its own transaction: it sees, and leaves, rows only.
* Errors are those of ``database``.

What it does not promise: that a deleted secret's ciphertext is gone from the disk. ``secure_delete`` zeroes it in
the database; the log, the file system and the drive may keep older copies. They are ciphertext.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence

import msgspec

from keychain_auth.crypto.aead import scrub_stack
from keychain_auth.errors import KeychainError, VaultDamaged, VaultError
from keychain_auth.keychain.vault import rekey
from keychain_auth.keychain.vault.database import ERRORS, connect, failure
from keychain_auth.keychain.vault.format import (
    FORMAT,
    MAX_GENERATION,
    OWN_SERVICE,
    Codec,
    Damage,
    SlotRow,
    State,
    context_of,
)
from keychain_auth.keychain.vault.history import KEEP, History
from keychain_auth.keychain.vault.index import Record
from keychain_auth.keychain.vault.journal import Batch, Entry, placed, present, sealed, to_blob
from keychain_auth.keychain.vault.migrate import migrate

# A retry never uses the number of an attempt that failed or was cut off, even in another process: what such an
# attempt left in the log must not fit the rows of the retry. Hence the gaps; 2^39 transactions still fit.
_GAP_BYTES = 3

_INSERT_ENTRY = "INSERT INTO journal (generation, batch) VALUES (?, ?)"
_DELETE_ENTRIES = "DELETE FROM journal WHERE generation <= ?"
MOST_WAITING = 4096
"""Rows that may wait to be made. Beyond it a write makes them first: memory, and the time of a close, have a bound."""


class Writer:
    """The only one that writes. All methods but the constructor run in one and the same thread."""

    def __init__(self, path: str, codec: Codec, state: State, waiting: Sequence[Entry] = ()) -> None:
        """``waiting``: what the journal holds."""
        self._path = path
        self._codec = codec
        self._history = History(codec, KEEP)
        self._db: sqlite3.Connection | None = None
        self._last_generation = state.generation
        self._waiting = list(waiting)
        self.waiting_rows = sum(len(entry.targets) for entry in waiting)
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

        def change(db: sqlite3.Connection, state: State) -> State:
            migrate(db, version)
            return self._history.emptied(db, state) if forget else state

        self._transaction(change)

    def append(self, batches: Sequence[Batch]) -> list[list[Record]]:
        """Make ``batches`` durable in one transaction, all or none; what is now to be known of the rows of each.

        No value is longer than ``INLINE_BYTES`` allows.
        """
        entries = [sealed(self._codec, batch, self._next_generation()) for batch in batches]
        rows = [(entry.generation, to_blob(self._codec, entry)) for entry in entries]

        def change(db: sqlite3.Connection, state: State) -> State:
            db.executemany(_INSERT_ENTRY, rows)
            return self._waiting_for(state, entries, len(entries), entries[-1].generation)

        added = sum(len(entry.targets) for entry in entries)
        self._transaction(change, place=None if self.waiting_rows + added > MOST_WAITING else 0)
        self._waiting += entries
        self.waiting_rows += added
        return [entry.records() for entry in entries]

    def write(self, batch: Batch) -> list[Record]:
        """Store ``batch`` with its rows, in one transaction; what is now to be known of them."""
        entry = sealed(self._codec, batch, self._next_generation())

        def change(db: sqlite3.Connection, state: State) -> State:
            state = placed(db, state, self._codec, self._history, [entry], self._path)
            return _numbered(state, entry.generation)

        self._transaction(change)
        return entry.records()

    def place(self, most: int) -> None:
        """Make the rows of some of the entries that wait, the oldest first: of ``most`` targets, or of one entry."""
        if self._waiting:
            generation = self._next_generation()
            self._transaction(lambda _, state: _numbered(state, generation), place=most)

    def delete(self, row_ids: Sequence[bytes]) -> None:
        """Remove rows in one transaction."""
        generation = self._next_generation()

        def change(db: sqlite3.Connection, state: State) -> State:
            doomed = []
            for row_id in dict.fromkeys(row_ids):
                old = present(db, self._path, state, row_id)
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
        self._transaction(lambda db, state: _numbered(self._history.forgotten(db, state, row_id), generation))

    def keep(self, own: Mapping[str, bytes | None], slots: Sequence[SlotRow] | None = None) -> list[Record]:
        """Store rows of the vault's own (None: remove), and with ``slots`` all key slots anew, in one transaction.

        Returns what is now to be known of the rows that were stored. They have no earlier values.
        """
        generation = self._next_generation()
        stored = {name: value for name, value in own.items() if value is not None}
        rows = [self._codec.seal_row(OWN_SERVICE, name, value, generation) for name, value in stored.items()]

        def change(db: sqlite3.Connection, state: State) -> State:
            for row_id in (self._codec.row_id(OWN_SERVICE, name) for name in own):
                old = present(db, self._path, state, row_id)
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

        def change(db: sqlite3.Connection, _: State) -> State:
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

    def checkpoint(self) -> None:
        """Bring what the log holds into the file, as far as nobody reads the older pages: so no write has to do this.
        What fails here is done later."""
        with contextlib.suppress(sqlite3.Error):
            self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Make the rows that wait, and disconnect; as the last connection this also empties the write-ahead log. The
        thread's last act. What cannot be made now stays in the journal."""
        if self._db is not None:
            with contextlib.suppress(KeychainError):
                self.place(self.waiting_rows)
        self._disconnect()

    def _disconnect(self) -> None:
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

    def _without(self, state: State, row_id: bytes, generation: int) -> State:
        """``state`` less the present row ``row_id``."""
        member = self._codec.member(context_of(row_id, generation))
        return msgspec.structs.replace(state, count=state.count - 1, members=state.members ^ member)

    def _transaction(
        self, change: Callable[[sqlite3.Connection, State], State], codec: Codec | None = None, place: int | None = None
    ) -> None:
        """Apply ``change`` and the state that it returns (sealed by ``codec``): all of it durable, or nothing.

        ``place``: of how many targets the rows that wait are made before that, in the same transaction; None: all.
        """
        try:
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            entries = self._oldest(place)
            state = self._placed(db, self.state, entries) if entries else self.state
            state = change(db, state)
            blob = (codec or self._codec).seal_state(state)
            db.execute("UPDATE meta SET value = ? WHERE name = 'state'", (blob,))
            db.execute("COMMIT")
        except ERRORS as error:
            self._undo()
            raise failure(error, "write", self._path) from None
        except BaseException:
            self._undo()
            raise
        self.state = state
        if entries:
            del self._waiting[: len(entries)]
            self.waiting_rows -= sum(len(entry.targets) for entry in entries)

    def _oldest(self, most: int | None) -> list[Entry]:
        """Entries that wait, the oldest first: until they are of ``most`` targets or more; None for all.

        What takes time is a target, not how often it was written meanwhile.
        """
        if most is None:
            return self._waiting[:]
        count, targets = 0, set[bytes]()
        for entry in self._waiting:
            if len(targets) >= most:
                break
            count += 1
            targets.update(entry.row_ids)
        return self._waiting[:count]

    def _placed(self, db: sqlite3.Connection, state: State, entries: Sequence[Entry]) -> State:
        """Make the rows of the oldest ``entries``, and take these out of the journal."""
        state = placed(db, state, self._codec, self._history, entries, self._path)
        db.execute(_DELETE_ENTRIES, (entries[-1].generation,))
        return self._waiting_for(state, entries, -len(entries), state.generation)

    def _waiting_for(self, state: State, entries: Sequence[Entry], more: int, generation: int) -> State:
        """``state`` with ``entries`` in the journal that were not, or no longer."""
        members = state.waiting_members
        for entry in entries:
            members ^= self._codec.batch_member(entry.generation)
        return msgspec.structs.replace(
            state, generation=generation, waiting_count=state.waiting_count + more, waiting_members=members
        )

    def _undo(self) -> None:
        """Roll back. A connection that cannot even do that is dropped: the next write opens another."""
        try:
            # After SQLITE_FULL, IOERR and NOMEM SQLite may have rolled back by itself already.
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()

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
