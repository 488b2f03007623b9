"""SQLite, and nothing but SQLite: a reader that cannot write, and the one writer.

Contract:
* ``Reader`` opens the file with ``mode=ro``. It takes part in WAL mode but can neither checkpoint nor delete the
  log, so looking at a damaged vault changes no byte of it.
* ``Writer`` lives in one thread. A transaction is durable when its method returns (WAL with
  ``synchronous=FULL``: the log is fsynced at each commit) and rolled back when it raises. ``Writer.state``
  changes only after a commit.
* Every ``sqlite3.Error`` becomes a KeychainError that names the cause and holds no data.

What it does not promise: that a deleted secret's ciphertext is gone from the disk. ``secure_delete`` zeroes it in
the database; the log, the file system and the drive may keep older copies. They are ciphertext.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import quote

import msgspec

from keychain_auth.crypto.aead import scrub_stack
from keychain_auth.errors import KeychainError, VaultDamaged, VaultError
from keychain_auth.keychain.vault import rekey
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
from keychain_auth.keychain.vault.history import KEEP, History
from keychain_auth.keychain.vault.index import INLINE_BYTES, Record
from keychain_auth.keychain.vault.migrate import migrate

_BUSY_SECONDS = 5.0
_PRIMARY = 0xFF  # the low byte of an extended result code is the primary one (sqlite.org/rescode.html)
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CAUSES = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file or its disk is read-only",
    sqlite3.SQLITE_IOERR: "the disk reports an input/output error",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_BUSY: "another program has locked the file",
    sqlite3.SQLITE_PERM: "the file may not be accessed",
}

# A retry never uses the number of an attempt that failed or was cut off, even in another process: what such an
# attempt left in the log must not fit the rows of the retry. Hence the gaps; 2^39 transactions still fit.
_GAP = 1 << 24

_UPSERT = (
    "INSERT INTO secrets (id, name, value, generation) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
    " SET name = excluded.name, value = excluded.value, generation = excluded.generation"
)
_ALL = "SELECT id, name, CASE WHEN length(value) <= ? THEN value END, generation, typeof(value) FROM secrets"
_PAST = "SELECT name, value, generation FROM history WHERE id = ? ORDER BY generation DESC"


# A message that quotes a damaged schema need not be UTF-8, and then the module fails to say what SQLite said.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)


def failure(error: sqlite3.Error | UnicodeDecodeError, doing: str, path: str) -> KeychainError:
    """``error`` as one of ours: ``cannot <doing> <path>: <cause>``."""
    if isinstance(error, UnicodeDecodeError):
        return VaultDamaged(f"{path} is damaged (its tables have no readable names)")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    if code & _PRIMARY in _DAMAGED:
        return VaultDamaged(f"{path} is damaged ({name})")
    cause = _CAUSES.get(code & _PRIMARY, "the database reports an error")
    return KeychainError(f"cannot {doing} {path}: {cause} ({name})", hint=f"df -h {path}; ls -l {path}")


def connect(path: str, options: str, *, any_thread: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode (transactions are ours to begin and end). Raises sqlite3.Error."""
    db = sqlite3.connect(
        f"file:{quote(path)}?{options}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=not any_thread,
    )
    db.text_factory = bytes  # text that a damaged file holds need not be UTF-8
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
    except sqlite3.Error:
        db.close()
        raise
    return db


class Reader:
    """Looks, never writes. ``immutable`` for a file that has no log and that nobody else has open."""

    def __init__(self, path: str, *, immutable: bool = False) -> None:
        self._path = path
        options = "mode=ro&immutable=1" if immutable else "mode=ro"
        with self._errors("open"):
            self._db = connect(path, options, any_thread=True)

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            raise failure(error, doing, self._path) from None

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """All rows of a query. Raises KeychainError."""
        with self._errors("read"):
            return self._db.execute(sql).fetchall()

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Every secret as (id, name, value if it is short, generation, type of value)."""
        with self._errors("read"):
            yield from self._db.execute(_ALL, (INLINE_BYTES,))

    def each(self, sql: str) -> Iterator[tuple[object, ...]]:
        """The rows of a query, one after the other. Raises KeychainError."""
        with self._errors("read"):
            yield from self._db.execute(sql)

    def row(self, row_id: bytes) -> tuple[object, object, object] | None:
        """(name, value, generation) of one row as it is on disk now."""
        with self._errors("read"):
            found: tuple[object, object, object] | None = self._db.execute(
                "SELECT name, value, generation FROM secrets WHERE id = ?", (row_id,)
            ).fetchone()
        return found

    def past(self, row_id: bytes) -> list[tuple[object, object, object]]:
        """(name, value, generation) of the earlier rows of one target, the newest first."""
        with self._errors("read"):
            return self._db.execute(_PAST, (row_id,)).fetchall()

    def hold(self) -> None:
        """Until ``release``, show the file as it is now, whatever is committed meanwhile (a WAL snapshot)."""
        with self._errors("read"):
            self._db.execute("BEGIN")
            self._db.execute("SELECT name FROM meta LIMIT 1").fetchall()  # the snapshot begins with the first read

    def release(self) -> None:
        """Show what is committed again."""
        with self._errors("read"):
            self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


class Writer:
    """The only one that writes. All methods but the constructor run in one and the same thread."""

    def __init__(self, path: str, codec: Codec, state: State, keep: int = KEEP) -> None:
        """``keep``: how many earlier values of a target stay."""
        self._path = path
        self._codec = codec
        self._history = History(codec, keep)
        self._db: sqlite3.Connection | None = None
        self._last_generation = state.generation
        self.state = state

    def open(self) -> None:
        """Connect, if not connected. Raises KeychainError."""
        try:
            self._connection()
        except sqlite3.Error as error:
            raise failure(error, "open", self._path) from error

    def prepare(self, version: int) -> None:
        """Before the first change: bring a file of format ``version`` to ours, drop a history that is not wanted."""
        forget = self._history.keep == 0 and self.state.past_count > 0
        if version == FORMAT and not forget:
            return

        def change(db: sqlite3.Connection) -> State:
            migrate(db, version)
            return self._history.emptied(db, self.state) if forget else self.state

        self._transaction(change)

    def write(
        self, service: str, entries: Mapping[str, bytes], attributes: dict[str, str] | None, program: str = ""
    ) -> list[Record]:
        """Store ``entries`` (target: value) in one transaction; what is now to be known of them."""
        generation = self._next_generation()
        rows = [
            self._codec.seal_row(service, target, value, attributes, generation, program)
            for target, value in entries.items()
        ]

        def change(db: sqlite3.Connection) -> State:
            state = self.state
            for row, value in zip(rows, entries.values(), strict=True):
                state = self._replace(state, db, row, value)
            return _numbered(state, generation)

        self._transaction(change)
        return [row.record for row in rows]

    def delete(self, row_ids: Sequence[bytes]) -> None:
        """Remove rows in one transaction."""
        generation = self._next_generation()

        def change(db: sqlite3.Connection) -> State:
            state = self.state
            for row_id in row_ids:
                old = self._present(state, db, row_id)
                if old is not None:
                    state = self._history.deleted(db, self._without(state, row_id, old[0]), row_id, old[0], generation)
                    db.execute("DELETE FROM secrets WHERE id = ?", (row_id,))
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
        rows = [self._codec.seal_row(OWN_SERVICE, name, value, None, generation) for name, value in stored.items()]

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
        self._last_generation += 1 + secrets.randbelow(_GAP)
        if self._last_generation > MAX_GENERATION:
            raise VaultError(f"{self._path} has no transaction numbers left", hint="keychain-auth status")
        return self._last_generation

    def _replace(self, state: State, db: sqlite3.Connection, row: Row, value: bytes) -> State:
        """Put ``row`` (whose plain value is ``value``) in the place of the one that is there, if one is."""
        old = self._present(state, db, row.row_id)
        if old is None:
            self._history.came_back(db, row.row_id)
        else:
            generation, *blobs = old
            state = self._without(state, row.row_id, generation)
            context = context_of(row.row_id, generation)
            if not self._history.is_same((blobs[0], blobs[1]), context, value, row.record.attributes):
                state = self._history.replaced(db, state, row.row_id, generation)
        db.execute(_UPSERT, (row.row_id, row.name, row.value, row.generation))
        member = self._codec.member(row.record.context)
        return msgspec.structs.replace(state, count=state.count + 1, members=state.members ^ member)

    def _present(self, state: State, db: sqlite3.Connection, row_id: bytes) -> tuple[int, object, object] | None:
        """(generation, name, value) of the row that is there. Raises VaultDamaged."""
        old: tuple[int, object, object] | None = db.execute(
            "SELECT generation, name, value FROM secrets WHERE id = ?", (row_id,)
        ).fetchone()
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
        except _ERRORS as error:
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
