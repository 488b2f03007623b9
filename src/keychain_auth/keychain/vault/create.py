"""The first start: from an empty folder to a vault, in steps that may be cut off anywhere.

The order is the whole point::

    1. vault.db.new   built, closed, synced             (no key for it exists outside this process)
    2. vault.key      written, synced                   (``Protector.commit``)
    3. vault.db.new   renamed to vault.db, folder synced

So what a cut leaves says how far it came: no key means that nothing was ever stored and step 1 begins again; a key
and vault.db.new mean that only step 3 is missing; vault.db means done. A key without either is none of these:
the vault was lost, and an empty one in its place would hide that.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Sequence

import msgspec

from keychain_auth import files
from keychain_auth.crypto.envelope import Place, Protector, discard, wrap
from keychain_auth.crypto.kdf import random_key, wipe
from keychain_auth.errors import VaultError, quoted
from keychain_auth.keychain.vault import format as layout
from keychain_auth.keychain.vault.database import connect, failure
from keychain_auth.oslayer import system

VAULT_ID_BYTES = 16
MARK = ".id"
"""A file of this ending beside the vault says that there is one: written before its key file is removed, because
without any key on the disk a lost vault would look like a first start."""
RESTORING = ".restoring"
"""A file of this ending beside the vault: a restoration is under way (``restore``). It says where the old files are."""
_SIDECARS = ("-wal", "-shm", "-journal")


def missing(path: str, protectors: Sequence[Protector]) -> str | None:
    """What to do about a vault that is not at ``path``: ``create``, ``finish``, or None (it is there).

    Raises VaultError when it is missing though something of it remains.
    """
    if os.path.lexists(path + RESTORING):
        raise VaultError(
            f"a restoration of {path} was cut off in its middle; nothing is lost: what was there before is in "
            f"{restoring_from(path)}",
            hint=f"restore the same backup again (keychain-auth restore FILE), or put those files back and rm "
            f"{quoted(path + RESTORING)}",
        )
    if os.path.lexists(path):
        return None
    if _length(path + "-wal") > 0:
        raise VaultError(f"{path} is missing, but its write-ahead log {path}-wal is there", hint=way_out(path))
    if not any(protector.present() for protector in protectors) and not os.path.lexists(path + MARK):
        return "create"
    if os.path.lexists(path + ".new"):
        return "finish"
    why = f"{path + MARK} says that there was one" if os.path.lexists(path + MARK) else "the key of a vault is there"
    raise VaultError(f"{path} is missing, but {why}", hint=way_out(path))


def restoring_from(path: str) -> str:
    """Where a restoration that was cut off has put the old files."""
    return files.read_private(path + RESTORING, 4096).decode("utf-8", "surrogateescape").strip()


def way_out(path: str) -> str:
    """What a person can do about a vault that does not open."""
    folder, name = os.path.split(path)
    return (
        f"restore {name} and its key from a backup; or begin anew with an empty vault, keeping the old files: "
        f"mkdir {folder}/old && mv {path}* {folder}/vault.key {folder}/old/"
    )


def create(path: str, protectors: Sequence[Protector]) -> None:
    """A new, empty vault at ``path``, with one slot for each protector. Raises VaultError."""
    new = path + ".new"
    try:
        for leftover in (*(new + sidecar for sidecar in _SIDECARS), new):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(leftover)
        _build(new, protectors)
        for protector in protectors:
            protector.commit()
        adopt(path)
    except sqlite3.Error as error:
        raise VaultError(str(failure(error, "create", path)), hint=_space(path)) from error
    except OSError as error:
        raise VaultError(f"cannot create {path}: {error.strerror}", hint=_space(path)) from error


def adopt(path: str) -> None:
    """The last step: give the finished vault its name. Raises OSError."""
    system.move(path + ".new", path)
    files.sync_dir(os.path.dirname(path))


def _build(new: str, protectors: Sequence[Protector]) -> None:
    os.close(system.open_file(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    vault_id = secrets.token_bytes(VAULT_ID_BYTES)
    vault_key = random_key()
    codec = layout.Codec(vault_key, vault_id)
    with contextlib.closing(connect(new, "mode=rw")) as db:
        db.execute(f"PRAGMA application_id = {layout.APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {layout.FORMAT}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        for statement in layout.SCHEMA:
            db.execute(statement)
        state = codec.seal_state(layout.EMPTY)
        db.executemany("INSERT INTO meta VALUES (?, ?)", (("vault_id", vault_id), ("state", state)))
        for slot, protector in enumerate(protectors, start=1):
            params, kek = protector.create()
            stored = msgspec.json.encode(params)
            wrapped = wrap(kek, memoryview(vault_key), Place(vault_id, slot, protector.kind, stored))
            row = (slot, protector.kind, stored.decode(), wrapped)
            db.execute("INSERT INTO slots VALUES (?, ?, ?, ?)", row)
            discard(kek)
        wipe(vault_key)
        codec.wipe()
        db.execute("COMMIT")
    # Closing the last connection moves the log into the file and deletes it, but reports no failure to do so.
    if _length(new + "-wal") > 0:
        raise VaultError(f"cannot create {new}: its write-ahead log could not be emptied", hint=_space(new))
    files.sync_dir(os.path.dirname(new))


def mark(path: str, vault_id: bytes) -> None:
    """Leave the mark of the vault at ``path``. Raises OSError."""
    files.replace(path + MARK, vault_id.hex().encode() + b"\n")


def _length(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _space(path: str) -> str:
    folder = os.path.dirname(path)
    return f"df -h {quoted(folder)}; ls -ld {quoted(folder)}"
