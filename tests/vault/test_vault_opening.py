"""Every kind of damage: recognised, typed, explained, and not one byte changed by having looked."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from vault_lab import at_once, contents, fill, open_at, opened, snapshot, tampering

from keychain_auth.errors import (
    KeychainError,
    UnsafeFile,
    VaultDamaged,
    VaultError,
    VaultInUse,
    VaultKeyMissing,
)
from keychain_auth.keychain.vault import open_vault
from keychain_auth.protectors.keyfile import KeyFile
from support.sampling import sampled

ENTRIES = {f"target-{number}": f"value {number}" for number in range(20)}
Spoil = Callable[[Path], None]


@pytest.fixture
def vault_folder(tmp_path: Path) -> Path:
    """A closed vault with 20 secrets."""
    fill(tmp_path, ENTRIES)
    return tmp_path


def _truncate(length: int) -> Spoil:
    """To ``length`` bytes; a negative one is cut off the end."""

    def spoil(folder: Path) -> None:
        size = (folder / "vault.db").stat().st_size
        os.truncate(folder / "vault.db", length if length >= 0 else size + length)

    return spoil


def _patch(offset: int, data: bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        with (folder / "vault.db").open("r+b") as file:
            file.seek(offset)
            file.write(data)

    return spoil


def _sql(*statements: str) -> Spoil:
    def spoil(folder: Path) -> None:
        with tampering(folder) as db:
            for statement in statements:
                db.execute(statement)

    return spoil


def _remove(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def _foreign_key_file(folder: Path) -> None:
    (folder / "other").mkdir()
    fill(folder / "other", {"x": "y"})
    shutil.copy(folder / "other" / "vault.key", folder / "vault.key")


def _log_without_database(folder: Path) -> None:
    (folder / "vault.db").unlink()
    (folder / "vault.key").unlink()
    (folder / "vault.db-wal").write_bytes(b"the last transactions")


DAMAGE: dict[str, tuple[Spoil, type[VaultError], str]] = {
    "empty file": (_truncate(0), VaultDamaged, "is empty"),
    "half a header": (_truncate(50), VaultDamaged, "only 50 bytes"),
    "header only": (_truncate(100), VaultDamaged, "damaged"),
    "half a page": (_truncate(-2048), VaultDamaged, "damaged"),
    "last page missing": (_truncate(-4096), VaultDamaged, "damaged"),
    "first page only": (_truncate(4096), VaultDamaged, "damaged"),
    "another kind of file": (_patch(0, b"PK\x03\x04"), VaultDamaged, "does not begin as a database"),
    "another program's database": (_patch(68, b"\0\0\0\0"), VaultDamaged, "not marked as a keychain-auth vault"),
    "noise in the pages": (_patch(4096, os.urandom(4096)), VaultDamaged, "damaged"),
    "newer format": (_sql("PRAGMA user_version = 4"), VaultError, "written by a newer keychain-auth"),
    "no vault id": (_sql("DELETE FROM meta WHERE name = 'vault_id'"), VaultDamaged, "vault id is missing"),
    "other vault id": (
        _sql("UPDATE meta SET value = zeroblob(16) WHERE name = 'vault_id'"),
        VaultDamaged,
        "key slot 1 does not authenticate",
    ),
    "no state": (_sql("DELETE FROM meta WHERE name = 'state'"), VaultDamaged, "state is missing"),
    "state of zeros": (
        _sql("UPDATE meta SET value = zeroblob(length(value)) WHERE name = 'state'"),
        VaultDamaged,
        "state record does not authenticate",
    ),
    "no slots": (_sql("DELETE FROM slots"), VaultKeyMissing, "no key slot"),
    "slot of zeros": (_sql("UPDATE slots SET wrapped = zeroblob(61)"), VaultDamaged, "key slot 1"),
    "slot of text": (_sql("UPDATE slots SET wrapped = 7"), VaultDamaged, "key slot"),
    "slot parameters are no JSON": (_sql("UPDATE slots SET params = '{'"), VaultDamaged, "key slot 1"),
    "slot moved": (_sql("UPDATE slots SET id = 2"), VaultDamaged, "key slot 2 does not authenticate"),
    "slot parameters padded": (_sql("UPDATE slots SET params = params || ' '"), VaultDamaged, "key slot 1"),
    "row removed": (_sql("DELETE FROM secrets WHERE rowid = 3"), VaultDamaged, "20 secrets were committed, 19"),
    "all rows removed": (_sql("DELETE FROM secrets"), VaultDamaged, "20 secrets were committed, 0"),
    "row copied": (
        _sql("INSERT INTO secrets SELECT zeroblob(32), name, value, generation FROM secrets WHERE rowid = 1"),
        VaultDamaged,
        "does not authenticate",
    ),
    "row without generation": (_sql("UPDATE secrets SET generation = NULL"), VaultDamaged, "transaction number"),
    "generation from the future": (
        _sql("UPDATE secrets SET generation = 9223372036854775807"),
        VaultDamaged,
        "transaction number",
    ),
    "value of text": (_sql("UPDATE secrets SET value = 'x' WHERE rowid = 1"), VaultDamaged, "a row does not hold"),
    "name that is a number": (_sql("UPDATE secrets SET name = 7 WHERE rowid = 1"), VaultDamaged, "a row does not hold"),
    "id that is a number": (_sql("UPDATE secrets SET id = 7 WHERE rowid = 1"), VaultDamaged, "a row does not hold"),
    "name shortened": (_sql("UPDATE secrets SET name = x'01' WHERE rowid = 1"), VaultDamaged, "name"),
    "a trigger": (
        _sql("CREATE TRIGGER t AFTER INSERT ON secrets BEGIN DELETE FROM secrets; END"),
        VaultDamaged,
        "its tables",
    ),
    "a table dropped": (_sql("DROP TABLE slots"), VaultDamaged, "its tables"),
    "database missing": (_remove("vault.db"), VaultError, "is missing, but the key of a vault is there"),
    "key missing": (_remove("vault.key"), VaultKeyMissing, "vault.key is missing"),
    "key empty": (lambda folder: os.truncate(folder / "vault.key", 0), VaultKeyMissing, "key file"),
    "key of another vault": (_foreign_key_file, VaultKeyMissing, "the key of another vault"),
    "log without database": (_log_without_database, VaultError, "its write-ahead log"),
}


@pytest.mark.parametrize(("spoil", "kind", "words"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_named_and_nothing_is_touched(
    vault_folder: Path, spoil: Spoil, kind: type[VaultError], words: str
) -> None:
    spoil(vault_folder)
    before = snapshot(vault_folder)
    for _ in range(2):  # looking twice must not help
        with pytest.raises(VaultError) as caught:
            open_at(vault_folder)
        assert type(caught.value) is kind
        assert words in str(caught.value)
        assert caught.value.hint
        assert "value" not in str(caught.value).replace("a value", "")
        assert snapshot(vault_folder) == before


def test_the_way_out_that_the_error_names_works(vault_folder: Path) -> None:
    """``mkdir … && mv …`` from the hint gives a new vault and keeps the old files."""
    _truncate(-4096)(vault_folder)
    before = snapshot(vault_folder)
    with pytest.raises(VaultDamaged) as caught:
        open_at(vault_folder)
    command = caught.value.hint.partition("keeping the old files: ")[2]
    assert command
    assert os.system(command) == 0  # noqa: S605 - this very text is what a person would paste
    with opened(vault_folder) as (vault, _):
        assert contents(vault) == {}
    kept = snapshot(vault_folder / "old")
    assert kept["vault.db"] == before["vault.db"]
    assert kept["vault.key"] == before["vault.key"]


def test_a_flipped_bit_never_gives_wrong_content(vault_folder: Path) -> None:
    """Anywhere in the file: either it is noticed (at opening or at reading), or everything is still right."""
    with opened(vault_folder) as (vault, _):
        right = contents(vault)
    database = vault_folder / "vault.db"
    whole = database.read_bytes()
    noticed = 0
    offsets = sampled(range(0, len(whole), 61))
    for offset in offsets:
        altered = bytearray(whole)
        altered[offset] ^= 1 << (offset % 8)
        database.write_bytes(altered)
        try:
            with opened(vault_folder) as (vault, _):
                assert contents(vault) == right, f"byte {offset}"
        except VaultError:
            noticed += 1
            for sidecar in ("-wal", "-shm"):
                (vault_folder / f"vault.db{sidecar}").unlink(missing_ok=True)
        except KeychainError as error:  # a flip may also look like a lock or an I/O error, but it is typed
            noticed += 1
            assert "vault.db" in str(error)
    assert noticed > len(offsets) // 30  # most of so small a file is unused space


def test_a_flipped_bit_in_use_is_always_noticed(vault_folder: Path) -> None:
    """Every part of every row, one bit each: id, name, value (when read), generation."""
    for column in ("id", "name", "value", "generation"):
        with tampering(vault_folder) as db:
            (rowid, old) = db.execute(f"SELECT rowid, {column} FROM secrets LIMIT 1").fetchone()  # noqa: S608
            new = old ^ 1 if isinstance(old, int) else old[:20] + bytes([old[20] ^ 1]) + old[21:]
            db.execute(f"UPDATE secrets SET {column} = ? WHERE rowid = ?", (new, rowid))  # noqa: S608
        with pytest.raises(VaultDamaged) as caught, opened(vault_folder) as (vault, _):
            contents(vault)
        if column == "value":
            assert "target-" in str(caught.value)
            assert "'svc'" in str(caught.value)
        with tampering(vault_folder) as db:
            db.execute(f"UPDATE secrets SET {column} = ? WHERE rowid = ?", (old, rowid))  # noqa: S608
    with opened(vault_folder) as (vault, _):
        assert len(contents(vault)) == len(ENTRIES)


def test_looking_at_a_damaged_vault_leaves_its_log_alone(tmp_path: Path) -> None:
    """A crash leaves the last transactions in the log only; SQLite would move them into the file on closing."""
    live, crashed = tmp_path / "live", tmp_path / "crashed"
    with opened(live) as (vault, runner):
        runner.run(vault.write("svc", list(ENTRIES.items()), {}))
        shutil.copytree(live, crashed)
    assert (crashed / "vault.db-wal").stat().st_size > 0
    key = (crashed / "vault.key").read_bytes()
    (crashed / "vault.key").unlink()
    before = snapshot(crashed)
    with pytest.raises(VaultKeyMissing):
        open_at(crashed)
    assert snapshot(crashed) == before
    (crashed / "vault.key").write_bytes(key)
    (crashed / "vault.key").chmod(0o600)
    with opened(crashed) as (vault, _):
        assert len(contents(vault)) == len(ENTRIES)


@pytest.mark.parametrize("name", ["vault.db", "vault.key"])
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_files_that_others_can_write_are_refused(vault_folder: Path, name: str, mode: int) -> None:
    (vault_folder / name).chmod(mode)
    before = snapshot(vault_folder)
    with pytest.raises(UnsafeFile) as caught:
        open_at(vault_folder)
    assert caught.value.hint == f"chmod 600 {vault_folder / name}"
    assert snapshot(vault_folder) == before


def test_a_folder_or_a_dangling_link_in_place_of_the_file(vault_folder: Path) -> None:
    (vault_folder / "vault.db").unlink()
    (vault_folder / "vault.db").mkdir()
    with pytest.raises(UnsafeFile, match="is a folder"):
        open_at(vault_folder)
    (vault_folder / "vault.db").rmdir()
    (vault_folder / "vault.db").symlink_to("nowhere")
    with pytest.raises(VaultError, match=r"vault\.db"):
        open_at(vault_folder)
    assert not (vault_folder / "nowhere").exists()


def test_one_vault_has_one_owner(vault_folder: Path) -> None:
    with opened(vault_folder) as (vault, _):
        with pytest.raises(VaultInUse, match="another process"):
            open_at(vault_folder)
        assert len(contents(vault)) == len(ENTRIES)
    with opened(vault_folder) as (vault, _):  # closed means free
        assert len(contents(vault)) == len(ENTRIES)


def test_a_refused_vault_is_free_again(vault_folder: Path) -> None:
    shutil.move(vault_folder / "vault.key", vault_folder / "aside")
    with pytest.raises(VaultKeyMissing):
        open_at(vault_folder)
    shutil.move(vault_folder / "aside", vault_folder / "vault.key")
    with opened(vault_folder) as (vault, _):
        assert len(contents(vault)) == len(ENTRIES)


def test_a_new_vault_is_private_from_the_first_byte(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with opened(tmp_path / "data") as (vault, runner):
            runner.run(vault.write("svc", [("t", "v")], {}))
            found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    finally:
        os.umask(old)
    assert set(found) >= {"vault.db", "vault.key", "vault.db-wal", "vault.db.lock"}
    assert set(found.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["vault.db", "vault.db.lock", "vault.key"]


def test_the_key_lies_in_the_given_buffer_until_closed(vault_folder: Path) -> None:
    buffer = bytearray(32)
    protector = KeyFile(str(vault_folder / "vault.key"))
    vault = open_vault(str(vault_folder), [protector], memoryview(buffer))
    assert any(buffer)
    first = vault.audit_key()
    assert len(first) == 32
    assert first != bytes(buffer)
    at_once(vault.close())
    assert not any(buffer)
    with opened(vault_folder) as (again, _):
        assert again.audit_key() == first
    for wrong in (bytearray(31), memoryview(bytes(32))):
        with pytest.raises(ValueError, match="32 writable bytes"):
            open_vault(str(vault_folder), [protector], wrong)


def test_a_closed_vault_does_not_look_empty(vault_folder: Path) -> None:
    with opened(vault_folder) as (vault, runner):
        runner.run(vault.close())
        for attempt in (
            lambda: at_once(vault.read("svc", ["target-1"], {})),
            lambda: at_once(vault.read_prefix("svc", ["t"], {})),
            lambda: at_once(vault.search("svc", [], {})),
            lambda: at_once(vault.services()),
            lambda: runner.run(vault.write("svc", [("t", "v")], {})),
            lambda: runner.run(vault.delete("svc", ["t"], {})),
            vault.audit_key,
        ):
            with pytest.raises(KeychainError, match="closed"):
                attempt()


def test_health_tells_numbers_and_no_names(vault_folder: Path) -> None:
    with opened(vault_folder) as (vault, _):
        text = json.dumps(vault.health())
        assert json.loads(text) == {
            "backend": "vault",
            "format": 3,
            "open": True,
            "secrets": 20,
            "services": 1,
            "slots": ["keyfile"],
            "earlier_values": 0,
        }
