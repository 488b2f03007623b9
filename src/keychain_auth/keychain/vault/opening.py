"""From a folder to an open vault, or to an error that says what is wrong and what to do.

Contract: whatever is found is first looked at without changing a byte (kind, owner and mode of the file, its header,
its tables, its pages, its key, every row, and that the rows are exactly those last committed). Only what passed
all of that is ever written to. A vault that does not pass is never replaced by an empty one.

Not checked here: the values. Each authenticates when it is read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from keychain_auth import files
from keychain_auth.crypto.aead import KEY_BYTES, scrub_stack
from keychain_auth.crypto.envelope import Protector
from keychain_auth.crypto.kdf import wipe
from keychain_auth.errors import KeychainError, VaultDamaged, VaultError, VaultInUse, VaultKeyMissing, quoted
from keychain_auth.keychain.vault import create as creation
from keychain_auth.keychain.vault import format as layout
from keychain_auth.keychain.vault.checking import CheckReport, check
from keychain_auth.keychain.vault.database import Reader, looked_at
from keychain_auth.keychain.vault.format import SlotRow
from keychain_auth.keychain.vault.history import KEEP
from keychain_auth.keychain.vault.index import Index, Record
from keychain_auth.keychain.vault.journal import Entry, read
from keychain_auth.keychain.vault.slots import open_one, read_slots, record_of
from keychain_auth.keychain.vault.vault import Vault
from keychain_auth.keychain.vault.worker import Worker
from keychain_auth.keychain.vault.writer import Writer

FILE_NAME = "vault.db"
_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"  # sqlite.org/fileformat2.html, section 1.3; the offsets below too
_PAGE_SIZE = slice(16, 18)
_PAGE_COUNT = slice(28, 32)
_USER_VERSION = slice(60, 64)
_APPLICATION_ID = slice(68, 72)
_INLINE_SQL_TYPES = b"blob"


def open_vault(
    folder: str,
    protectors: Sequence[Protector],
    key_buffer: bytearray | memoryview | None = None,
    *,
    history: int | Callable[[Vault], int] = KEEP,
    claim: int | None = None,
    makers: Sequence[Protector] | None = None,
) -> Vault:
    """The vault in ``folder``, created if nothing of one is there; nobody else can open it meanwhile.

    ``protectors`` are tried in turn. ``key_buffer`` (32 writable bytes, in memory that is never swapped) receives
    the vault key; ``Vault.close`` wipes it. ``history``: how many earlier values of a target stay; with 0 those that
    there are go; or who says that, once he may read what the vault remembers. ``claim``: what ``claim_vault`` gave; it
    stays the caller's. A vault of an older format is brought to ours. ``makers``: whose slots a new vault gets; without
    it those of ``protectors``, with none of them no vault is made. Takes about 5 µs for each secret, and as long as the
    protector does; not for the event loop.

    Raises VaultInUse, VaultLocked if only a person can open it, WrongPassphrase, VaultKeyMissing, VaultDamaged or
    another VaultError, or UnsafeFile.
    """
    path = vault_path(folder)
    key = memoryview(bytearray(KEY_BYTES) if key_buffer is None else key_buffer).cast("B")
    if len(key) != KEY_BYTES or key.readonly:
        raise ValueError("key_buffer must be 32 writable bytes")
    with contextlib.ExitStack() as undo:
        lock = None
        if claim is None:
            lock = claim_vault(folder)
            undo.callback(os.close, lock)
        undo.callback(wipe, key)
        with _explained(path):
            step = creation.missing(path, protectors)
            if step == "create" and not (protectors if makers is None else makers):
                raise VaultError(f"{path} is missing", hint=creation.way_out(path))
            if step == "create":
                creation.create(path, protectors if makers is None else makers)
            elif step == "finish":
                _finish(path, protectors, key)
            _check_files(path)
            reader = Reader(path)
            undo.callback(reader.close)
            version, codec, vault_id, slots = _unlock(path, reader, protectors, key)
            undo.callback(codec.wipe)
            state, index, waiting = _load(reader, codec, version)
            _check_slots(index, codec, slots)
            writer = Writer(path, codec, state, waiting)
            worker = Worker("vault-writer")
            undo.callback(worker.shutdown)
            worker.submit(writer.open).result()
            vault = Vault(
                path=path, key=key, codec=codec, index=index, reader=reader, writer=writer, worker=worker, lock=lock,
                vault_id=vault_id, slots=slots,
            )  # fmt: skip
            keep = history if isinstance(history, int) else history(vault)
            worker.submit(partial(writer.prepare, version, keep)).result()
            scrub_stack()  # this thread may be idle from now on
        undo.pop_all()
    return vault


def vault_path(folder: str) -> str:
    """The file of the vault in ``folder``."""
    return os.path.join(os.path.abspath(folder), FILE_NAME)


def peek_slots(folder: str) -> list[SlotRow]:
    """The key slots of the vault in ``folder``, without any key; none if there is no vault yet.

    What it does not promise: that they are those that the vault committed. Only who opens it can say.
    Raises VaultError, UnsafeFile.
    """
    path = vault_path(folder)
    if not os.path.lexists(path):
        return []
    with _explained(path):
        _check_files(path)
        with contextlib.closing(Reader(path)) as reader:
            return read_slots(reader)


def claim_vault(folder: str) -> int:
    """Keep every other process from the vault in ``folder``, as long as this descriptor is open.

    Raises VaultInUse, VaultError, UnsafeFile.
    """
    path = vault_path(folder)
    try:
        files.make_private_dir(os.path.dirname(path))
        lock = files.try_lock(path + ".lock")
    except OSError as error:
        raise VaultError(
            f"cannot use the vault folder {os.path.dirname(path)}: {error.strerror}",
            hint=f"ls -ld {quoted(os.path.dirname(path))}",
        ) from error
    if lock is None:
        raise VaultInUse(f"another process has the vault {path} open", hint=f"fuser -v {quoted(path)}.lock")
    return lock


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Every failure to open as a VaultError (or UnsafeFile) with a way out."""
    try:
        yield
    except layout.Damage as damage:
        raise VaultDamaged(f"{path} is damaged: {damage}", hint=creation.way_out(path)) from None
    except KeychainError as error:
        if isinstance(error, VaultDamaged) and not error.hint:
            error.hint = creation.way_out(path)
        if isinstance(error, VaultError):
            raise
        raise VaultError(str(error), hint=error.hint) from error
    except OSError as error:
        raise VaultError(f"cannot open {path}: {error.strerror}", hint=f"ls -l {quoted(path)}") from error


def _check_files(path: str) -> None:
    """Owner, mode and header, before SQLite is allowed near the file."""
    with looked_at(path, files.open_unchecked) as fd:
        files.check_private(path, fd)
        header = os.read(fd, _HEADER_BYTES)
        size = os.fstat(fd).st_size
    log = 0
    with contextlib.suppress(FileNotFoundError):
        fd = files.open_private(path + "-wal")
        log = os.fstat(fd).st_size
        os.close(fd)
    if not header:
        raise layout.Damage("the file is empty")
    if len(header) < _HEADER_BYTES:
        raise layout.Damage(f"only {len(header)} bytes are left of it")
    if not header.startswith(_MAGIC):
        raise layout.Damage("it does not begin as a database does")
    # SQLite takes what is missing of a last page for zeros. While there is a log, the file may lag behind.
    whole = int.from_bytes(header[_PAGE_SIZE], "big") * int.from_bytes(header[_PAGE_COUNT], "big")
    if not log and size < whole:
        raise layout.Damage(f"it was cut: {size} of {whole} bytes are left")
    _check_format(
        path,
        int.from_bytes(header[_APPLICATION_ID], "big"),
        int.from_bytes(header[_USER_VERSION], "big"),
    )


def _check_format(path: str, application: int, version: int) -> None:
    if application != layout.APPLICATION_ID or version < 1:
        raise layout.Damage("it is not marked as a keychain-auth vault")
    if version > layout.FORMAT:
        raise VaultError(
            f"{path} has format {version}, written by a newer keychain-auth; this one knows format "
            f"{layout.FORMAT}. It was left as it is",
            hint="keychain-auth --version",
        )


def _finish(path: str, protectors: Sequence[Protector], key: memoryview) -> None:
    """Complete a first start that was cut off before its last step, if what it left is whole."""
    new = path + ".new"
    os.close(files.open_private(new))
    with contextlib.closing(Reader(new, immutable=True)) as reader:
        version, codec, _, _ = _unlock(new, reader, protectors, key)
        _load(reader, codec, version)
    try:
        creation.adopt(path)
    except OSError as error:
        raise VaultError(f"cannot rename {new} to {path}: {error.strerror}") from error


def _unlock(
    path: str, reader: Reader, protectors: Sequence[Protector], key: memoryview
) -> tuple[int, layout.Codec, bytes, list[SlotRow]]:
    """Check the database as such, then open one slot: the vault key goes into ``key``. The first result: its format."""
    version, vault_id, slots = _look(path, reader)
    try:
        open_one(path, slots, vault_id, protectors, key)
    except VaultKeyMissing as missing:
        missing.hint = missing.hint or creation.way_out(path)
        raise
    return version, layout.Codec(key, vault_id), vault_id, slots


def _look(path: str, reader: Reader) -> tuple[int, bytes, list[SlotRow]]:
    """Check the database as such: its format, the vault's id, its key slots. Needs no key."""
    pragmas = [reader.ask(f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version")]
    application, version = (value if isinstance(value, int) else 0 for value in pragmas)
    _check_format(path, application, version)
    tables = reader.ask("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
    if [sql for (sql,) in tables] != [sql.encode() for sql in layout.SCHEMAS[version]]:
        raise layout.Damage(f"its tables are not those of format {version}")
    if reader.ask("PRAGMA quick_check(1)") != [(b"ok",)]:
        raise layout.Damage("its pages do not fit together")
    return version, _meta(reader, "vault_id"), read_slots(reader)


class Inspected(NamedTuple):
    """What a closed vault file is, after every row of it was looked at. ``codec`` is the caller's to wipe.

    ``own``: the vault's own rows, by name.
    """

    version: int
    vault_id: bytes
    slots: list[SlotRow]
    codec: layout.Codec
    state: layout.State
    own: dict[str, str]
    report: CheckReport


def inspect(path: str, key: bytes | memoryview) -> Inspected:
    """Look at every row of the vault file ``path``, which nobody has open, by the vault key itself; nothing is changed.

    Raises VaultDamaged or another VaultError, UnsafeFile. What only ``check`` sees is in the report.
    """
    with _explained(path):
        _check_files(path)
        with contextlib.closing(Reader(path, immutable=True)) as reader:
            version, vault_id, slots = _look(path, reader)
            codec = layout.Codec(key, vault_id)
            try:
                state, index, _ = _load(reader, codec, version)
                _check_slots(index, codec, slots)
                own = index.shelf(layout.OWN_SERVICE).records.values()
                texts = {row.target: codec.open_value(row.blob, row.context) for row in own if row.blob is not None}
                report = check(path, codec, version, immutable=True)
                return Inspected(version, vault_id, slots, codec, state, texts, report)
            except BaseException:
                codec.wipe()
                raise


def _check_slots(index: Index, codec: layout.Codec, slots: Sequence[SlotRow]) -> None:
    """The slots must be those that were committed: nobody removed one, or brought an old one back."""
    record = index.shelf(layout.OWN_SERVICE).records.get(layout.OWN_SLOTS)
    if record is None:
        return
    if record.blob is None or codec.open_value(record.blob, record.context) != record_of(slots):
        raise layout.Damage("its key slots are not those that were last committed: one was removed, or brought back")


def _meta(reader: Reader, name: str) -> bytes:
    found = reader.ask(f"SELECT value FROM meta WHERE name = '{name}'")  # noqa: S608 - our own constants
    if len(found) != 1 or not isinstance(found[0][0], bytes):
        raise layout.Damage(f"its {name.replace('_', ' ')} is missing")
    return found[0][0]


def _load(reader: Reader, codec: layout.Codec, version: int) -> tuple[layout.State, Index, list[Entry]]:
    """Every name, authenticated; and all of them together exactly what was last committed.

    The third result: what the journal holds. The index shows it already.
    """
    state = codec.open_state(_meta(reader, "state"))
    count = members = 0
    services: dict[str, dict[str, Record]] = {}
    shared: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for row_id, sealed_name, blob, generation, kind in reader.rows():
        if not (isinstance(row_id, bytes) and isinstance(sealed_name, bytes) and kind == _INLINE_SQL_TYPES):
            raise layout.Damage("a row does not hold what it must")
        if not (isinstance(generation, int) and 0 < generation <= state.generation):
            raise layout.Damage("a row has a transaction number that was never given")
        context = layout.context_of(row_id, generation)
        name = codec.open_name(sealed_name, context)
        attributes = name.attributes
        if attributes is not None:  # few sets of attributes, many rows: keep each set once
            attributes = shared.setdefault(tuple(attributes.items()), attributes)
        kept = blob if isinstance(blob, bytes) else None
        services.setdefault(name.service, {})[name.target] = Record(name.target, context, kept, attributes)
        count += 1
        members ^= codec.member(context)
    if (count, members) != (state.count, state.members) or count != sum(map(len, services.values())):
        raise layout.Damage(
            f"{state.count} secrets were committed, {count} are there, and they are not the same: rows were removed, "
            "added, or put back to an earlier time"
        )
    index = Index()
    for service, records in services.items():
        index.put(service, list(records.values()))
    waiting = read(codec, state, reader.journal()) if version >= layout.FIRST_WITH_JOURNAL else []
    for entry in waiting:
        index.put(entry.service, entry.records())
    return state, index, waiting
