"""SQLite, and nothing but SQLite: connections, their errors, and a reader that cannot write.

Contract:
* ``Reader`` opens the file with ``mode=ro``. It takes part in WAL mode but can neither checkpoint nor delete the
  log, so looking at a damaged vault changes no byte of it.
* Every ``sqlite3.Error`` becomes a KeychainError that names the cause and holds no data.
* Whoever looks at the file without SQLite does so through ``looked_at``.

Why: on POSIX systems, who closes any descriptor of a file gives up all locks that his process has on it
(sqlite.org/howtocorrupt.html, 2.2). Without them another program that opens and closes the vault takes itself for the
last one and deletes the log under us: what we write from then on is lost with a crash.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import quote

from keychain_auth.errors import KeychainError, VaultDamaged, quoted
from keychain_auth.keychain.vault.index import INLINE_BYTES

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

_ALL = "SELECT id, name, CASE WHEN length(value) <= ? THEN value END, generation, typeof(value) FROM secrets"
_PAST = "SELECT name, value, generation FROM history WHERE id = ? ORDER BY generation DESC"

# A message that quotes a damaged schema need not be UTF-8, and then the module fails to say what SQLite said.
ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What the module raises when SQLite reports a failure."""


def failure(error: sqlite3.Error | UnicodeDecodeError, doing: str, path: str) -> KeychainError:
    """``error`` as one of ours: ``cannot <doing> <path>: <cause>``."""
    if isinstance(error, UnicodeDecodeError):
        return VaultDamaged(f"{path} is damaged (its tables have no readable names)")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    if code & _PRIMARY in _DAMAGED:
        return VaultDamaged(f"{path} is damaged ({name})")
    cause = _CAUSES.get(code & _PRIMARY, "the database reports an error")
    return KeychainError(f"cannot {doing} {path}: {cause} ({name})", hint=f"df -h {quoted(path)}; ls -l {quoted(path)}")


# Of files, by device and number. All of it is used with _guard held.
_guard = threading.Lock()
_connected: Counter[tuple[int, int]] = Counter()
_kept: dict[tuple[int, int], list[int]] = {}


class _Connection(sqlite3.Connection):
    """Counted from before SQLite takes its first lock until it has given up the last."""

    counted: tuple[int, int] | None = None

    def close(self) -> None:
        super().close()
        counted, self.counted = self.counted, None
        _uncount(counted)


def _number(path: str) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _count(path: str) -> tuple[int, int] | None:
    with _guard:
        number = _number(path)
        if number is not None:
            _connected[number] += 1
    return number


def _uncount(number: tuple[int, int] | None) -> None:
    if number is None:
        return
    with _guard:
        _connected[number] -= 1
        if not _connected[number]:
            del _connected[number]
            for fd in _kept.pop(number, ()):
                os.close(fd)


@contextlib.contextmanager
def looked_at(path: str, open_file: Callable[[str], int]) -> Iterator[int]:
    """A descriptor to read the file from; no locks of this process's connections are lost by it.

    It comes from ``open_file``. Of a file that has connections it stays open, one for all looks, until the last
    connection is closed.
    """
    with _guard:
        number = _number(path)
        if number in _kept:
            fd = _kept[number][0]
            os.lseek(fd, 0, os.SEEK_SET)
            yield fd
            return
        fd = open_file(path)
        try:
            yield fd
        finally:
            info = os.fstat(fd)
            found = info.st_dev, info.st_ino
            if found in _connected:
                _kept.setdefault(found, []).append(fd)
            else:
                os.close(fd)


def connect(path: str, options: str, *, any_thread: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode (transactions are ours to begin and end). Raises sqlite3.Error."""
    counted = _count(path)
    try:
        db = sqlite3.connect(
            f"file:{quote(path)}?{options}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=not any_thread,
            factory=_Connection,
        )
    except BaseException:
        _uncount(counted)
        raise
    db.counted = counted
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
        except ERRORS as error:
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

    def length(self, row_id: bytes) -> int:
        """Bytes of a row's sealed value as it is on disk now; 0 if there is no such row."""
        with self._errors("read"):
            found = self._db.execute("SELECT length(value) FROM secrets WHERE id = ?", (row_id,)).fetchone()
        return found[0] if found and isinstance(found[0], int) else 0

    def past(self, row_id: bytes) -> list[tuple[object, object, object]]:
        """(name, value, generation) of the earlier rows of one target, the newest first."""
        with self._errors("read"):
            return self._db.execute(_PAST, (row_id,)).fetchall()

    def journal(self) -> list[tuple[object, ...]]:
        """(generation, batch) of every entry of the journal, the oldest first."""
        return self.ask("SELECT generation, batch FROM journal ORDER BY generation")

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
