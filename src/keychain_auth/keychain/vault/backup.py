"""A backup: the vault's file as it was at one moment, and the vault key, in a strongbox that a passphrase opens.

Contract:
* ``make`` looks at every row first. It takes one moment of the file (a read transaction), whoever writes meanwhile, and
  holds nobody up.
* A backup needs neither the key file nor any slot: its passphrase is enough, on any machine. It has the earlier values,
  the attributes, the slots and the audit log's key as well.
* ``unpack`` gives what was put in, or raises.

What it does not promise: anything about a passphrase that was guessed or lost. Nor that older backups forget what was
deleted since.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import NamedTuple

from keychain_auth import files
from keychain_auth.crypto import strongbox
from keychain_auth.crypto.aead import KEY_BYTES
from keychain_auth.crypto.stretch import Cost
from keychain_auth.crypto.strongbox import COST
from keychain_auth.errors import UsageError, VaultDamaged, VaultError, WrongPassphrase, quoted
from keychain_auth.keychain.vault.checking import CheckReport, check
from keychain_auth.keychain.vault.database import connect, failure
from keychain_auth.keychain.vault.format import Codec

PURPOSE = "backup"
SHORTEST = 8
_LARGEST = 4 * 1024**3  # bytes


class Unpacked(NamedTuple):
    """The content of a backup."""

    key: bytes
    image: bytes


def make(path: str, key: bytes | memoryview, codec: Codec, passphrase: str, created: str, cost: Cost = COST) -> bytes:
    """The backup of the open vault ``path``; takes a second and more, not for the event loop.

    Raises UsageError for a short passphrase, VaultDamaged if a row is not in order, KeychainError.
    """
    if len(passphrase) < SHORTEST:
        raise UsageError(f"a passphrase has at least {SHORTEST} characters; six random words are a good one")
    image = snapshot(path)
    report = check(path, codec)
    if not report.ok:
        raise VaultDamaged(f"{path} is damaged, so no backup was made: {report.findings[0]}", hint=WHAT_NOW)
    return strongbox.seal(PURPOSE, passphrase, bytes(key) + image, created, cost)


WHAT_NOW = "keychain-auth vault check"


def snapshot(path: str) -> bytes:
    """The bytes of the vault's file at one moment, with what so far stands in its log only. Raises KeychainError."""
    try:
        with (
            contextlib.closing(connect(path, "mode=ro")) as source,
            contextlib.closing(sqlite3.connect(":memory:")) as db,
        ):
            source.backup(db)  # in one step: one read transaction
            return db.serialize()
    except sqlite3.Error as error:
        raise failure(error, "read", path) from error


def write_new(path: str, content: bytes) -> None:
    """``content`` as the new file ``path`` (0600), whole and durable. Raises UsageError if it exists, OSError."""
    if os.path.lexists(path):
        raise UsageError(f"{path} exists already; nothing was written", hint=f"mv {quoted(path)} {quoted(path)}.old")
    files.replace(path, content)


def read(path: str) -> bytes:
    """The content of a backup file, whoever owns it: it vouches for itself. Raises OSError, VaultError."""
    with open(path, "rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise VaultError(f"{path} is larger than a backup can be")
    return content


def unpack(name: str, content: bytes, passphrase: str) -> Unpacked:
    """What is in the backup ``content``, which errors call ``name``. Takes about half a second.

    Raises WrongPassphrase, VaultDamaged.
    """
    try:
        plain = strongbox.unseal(PURPOSE, passphrase, content)
    except strongbox.WrongKey:
        raise WrongPassphrase(
            f"this is not the passphrase of {name}; a backup opens with the one that it was given when it was made, "
            "which need not be the vault's",
            hint="try again with the passphrase of the backup; nothing was changed",
        ) from None
    except strongbox.NotAStrongbox as problem:
        raise VaultDamaged(f"{name} is no whole backup: {problem}", hint="use another backup") from None
    return Unpacked(plain[:KEY_BYTES], plain[KEY_BYTES:])


__all__ = ["CheckReport", "Unpacked", "make", "read", "snapshot", "unpack", "write_new"]
