"""From a backup to a vault: staged and looked at first, the old files put aside, then put in place.

Contract:
* Nothing that is there is overwritten or removed: it moves into a folder of its own, whose name is returned.
* The order, each step durable before the next::

    1. vault.db.staged      written, every row of it checked, its key slots fitted to this machine
    2. vault.key.staged     a new key file, if the one that is there does not fit
    3. vault.db.restoring   says where the old files go
    4. the old files        move there
    5. what is staged       gets its name
    6. vault.db.restoring   is removed

  A crash before 3 has changed nothing. After it the vault does not open (``create.missing``), until the restoration was
  repeated: never an empty vault, never half of two.
* It opens on this machine afterwards if it has a key file slot, or one that a person can open.

Nobody may have the vault open: the caller holds ``claim_vault``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from keychain_auth import files
from keychain_auth.crypto.aead import NotAuthentic
from keychain_auth.crypto.envelope import Place, Protector, discard, unwrap_into
from keychain_auth.crypto.kdf import subkey, wipe
from keychain_auth.errors import KeychainError, VaultDamaged, VaultError
from keychain_auth.keychain.vault.backup import Unpacked
from keychain_auth.keychain.vault.checking import CheckReport
from keychain_auth.keychain.vault.create import MARK, RESTORING, mark, restoring_from
from keychain_auth.keychain.vault.format import OWN_AUDIT_KEY, OWN_AUDIT_MARK, OWN_POLICY, OWN_SLOTS, SlotRow
from keychain_auth.keychain.vault.opening import Inspected, inspect, vault_path
from keychain_auth.keychain.vault.slots import new_slot, record_of, with_slot
from keychain_auth.keychain.vault.writer import Writer
from keychain_auth.oslayer import system

_ANOTHER = "use another backup"
_OLD = ("", "-wal", "-shm", MARK, ".new", ".new-wal", ".new-shm")


class Restored(NamedTuple):
    """What was done. ``aside``: the folder with the old files, empty if there were none. ``slots``: their kinds.
    ``policy``: the text of the policy that is sealed in it, "" for none."""

    report: CheckReport
    slots: list[str]
    aside: str
    new_key_file: bool
    audit_key: bytes
    policy: str


def look(folder: str, backup: Unpacked) -> CheckReport:
    """Every row of a backup, without restoring it; ``folder`` (0700) takes a file meanwhile. Raises KeychainError."""
    path = os.path.join(folder, "vault.db.look")
    try:
        _write(path, backup.image)
        found = _inspected(path, backup)
        found.codec.wipe()
        return found.report
    finally:
        _remove(path)


def restore(folder: str, backup: Unpacked, key_file: Callable[[str], Protector], key_path: str, stamp: str) -> Restored:
    """Make the vault in ``folder`` the one of the backup.

    ``key_file`` makes the protector for a key file at a path; the vault's own is at ``key_path``. ``stamp``: a time for
    the name of the folder that takes the old files. Raises VaultDamaged if the backup's vault is not in order: then
    nothing was changed. Raises OSError, VaultError.
    """
    path = vault_path(folder)
    staged, staged_key = path + ".staged", key_path + ".staged"
    leftovers = (staged, staged + "-wal", staged + "-shm", staged_key)
    _remove(*leftovers)
    try:
        _write(staged, backup.image)
        found = _inspected(staged, backup)
        try:
            if not found.report.ok:
                raise VaultDamaged(f"the vault in the backup is damaged: {found.report.findings[0]}", hint=_ANOTHER)
            fits = _key_file_fits(found, key_file(key_path), backup.key)
            slots = _fit(staged, found, None if fits else key_file(staged_key), backup.key)
        finally:
            found.codec.wipe()
        aside = _put_aside(path, stamp, [] if fits else [key_path])
        if not fits:
            system.move(staged_key, key_path)
        if key_file(key_path).kind not in [slot.kind for slot in slots]:
            mark(path, found.vault_id)  # without a key file nothing else would say later that there was a vault
        system.move(staged, path)
        files.sync_dir(folder)
        os.unlink(path + RESTORING)
        files.sync_dir(folder)
    except BaseException:
        _remove(*leftovers)
        raise
    kept = found.own.get(OWN_AUDIT_KEY)
    audit_key = subkey(backup.key, b"", "audit 1") if kept is None else bytes.fromhex(kept)
    return Restored(
        found.report, [slot.kind for slot in slots], aside, not fits, audit_key, found.own.get(OWN_POLICY, "")
    )


def _inspected(path: str, backup: Unpacked) -> Inspected:
    try:
        return inspect(path, backup.key)
    except VaultError as error:  # its own hint speaks of a vault in its place
        raise VaultDamaged(f"the vault in the backup does not open: {error}", hint=_ANOTHER) from None


def _key_file_fits(found: Inspected, key_file: Protector, key: bytes) -> bool:
    """Need no key file be made: because the one that is there opens a slot, or the vault has no such slot."""
    slots = [slot for slot in found.slots if slot.kind == key_file.kind]
    for slot in slots:
        scratch = memoryview(bytearray(len(key)))
        try:
            kek = key_file.unwrap_key(slot.parameters())
            try:
                unwrap_into(kek, slot.wrapped, Place(found.vault_id, slot.number, slot.kind, slot.params), scratch)
            finally:
                discard(kek)
        except (KeychainError, NotAuthentic, ValueError):
            continue
        finally:
            wipe(scratch)
        return True
    return not slots


def _fit(staged: str, found: Inspected, key_file: Protector | None, key: bytes) -> list[SlotRow]:
    """Bring the staged file to our format, and give it a slot for a new key file in place of the old one's."""
    slots = found.slots
    writer = Writer(staged, found.codec, found.state)
    try:
        writer.open()
        writer.prepare(found.version)
        if OWN_AUDIT_MARK in found.own:  # the log beside it may be another one, or none
            writer.keep({OWN_AUDIT_MARK: None})
        if key_file is not None:
            fresh = new_slot(key_file)
            key_file.commit()
            try:
                others = [slot for slot in slots if slot.kind != key_file.kind]
                slots = with_slot(others, fresh, memoryview(key), found.vault_id)
            finally:
                discard(fresh.kek)
            writer.keep({OWN_SLOTS: record_of(slots).encode()}, slots)
    finally:
        writer.close()
    if os.path.lexists(staged + "-wal"):
        raise VaultError(f"{staged} could not be finished: its log could not be emptied", hint="df -h")
    _sync(staged)
    return slots


def _put_aside(path: str, stamp: str, more: list[str]) -> str:
    """Move what is there into a folder of its own; its name, empty if nothing is there. The restoration has begun.

    One that was cut off is continued in its own folder: a database and its log must not be parted.
    """
    folder = os.path.dirname(path)
    old = [name for name in (*(path + ending for ending in _OLD), *more) if os.path.lexists(name)]
    base = os.path.join(folder, f"before-restore-{stamp}")
    before = restoring_from(path) if os.path.lexists(path + RESTORING) else ""
    if os.path.dirname(before) == folder:
        base = before
    else:
        base = next(name for name in _numbered(base) if not os.path.lexists(name))
    _make_folder(base)
    files.replace(path + RESTORING, f"{base}\n".encode("utf-8", "surrogateescape"))
    for name in old:
        places = (os.path.join(place, os.path.basename(name)) for place in _numbered(base))
        free = next(place for place in places if not os.path.lexists(place))
        _make_folder(os.path.dirname(free))
        system.move(name, free)
        files.sync_dir(os.path.dirname(free))
    files.sync_dir(folder)
    if os.listdir(base):
        return base
    os.rmdir(base)
    return ""


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(1):
        yield f"{name}-{number}"


def _make_folder(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        system.make_private_dir(path)
        files.sync_dir(os.path.dirname(path))


def _write(path: str, content: bytes) -> None:
    _remove(path)
    fd = system.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        files.write_all(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync(path: str) -> None:
    fd = system.open_file(path, os.O_RDWR)  # Windows flushes only what may be written
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(*paths: str) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


__all__ = ["Restored", "look", "restore"]
