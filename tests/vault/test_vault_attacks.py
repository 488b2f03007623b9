"""Who can write the file, but has no key: each attack first against a naive store, where it wins, then against ours.

The naive store encrypts every value with AES-256-GCM and a random nonce, as ours does, and nothing more.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from vault_lab import at_once, contents, fill, open_at, opened, snapshot, tampering, values

from keychain_auth.crypto.aead import Aead
from keychain_auth.errors import VaultDamaged


class NaiveStore:
    """Encrypted values under plain names; nothing says which value belongs to which name, or when."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB)")
        self.cipher = Aead(os.urandom(32))

    def write(self, name: str, value: str) -> None:
        self.db.execute("REPLACE INTO secrets VALUES (?, ?)", (name, self.cipher.seal(value.encode(), b"")))

    def read(self, name: str) -> str:
        (blob,) = self.db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
        return self.cipher.open(blob, b"").decode()


Secret = tuple[bytes, bytes, bytes, int]


def _rows(folder: Path) -> list[Secret]:
    with tampering(folder) as db:
        return db.execute("SELECT id, name, value, generation FROM secrets ORDER BY generation").fetchall()


def _refused(folder: Path) -> None:
    """The vault does not open, and stays as it is."""
    before = snapshot(folder)
    with pytest.raises(VaultDamaged, match="damaged"):
        open_at(folder)
    assert snapshot(folder) == before


def _two_secrets(folder: Path) -> None:
    fill(folder, {"staging": "weak"})
    fill(folder, {"production": "strong"})


# --- swap: the staging program, which may read only "staging", is to be given the production password ---------------


def test_swapping_values_wins_against_the_naive_store(tmp_path: Path) -> None:
    naive = NaiveStore(tmp_path / "naive.db")
    naive.write("staging", "weak")
    naive.write("production", "strong")
    (value,) = naive.db.execute("SELECT value FROM secrets WHERE name = 'production'").fetchone()
    naive.db.execute("UPDATE secrets SET value = ? WHERE name = 'staging'", (value,))
    assert naive.read("staging") == "strong"
    naive.db.close()


def test_swapping_values_loses(tmp_path: Path) -> None:
    _two_secrets(tmp_path)
    staging, production = _rows(tmp_path)
    with tampering(tmp_path) as db:
        db.execute("UPDATE secrets SET value = ? WHERE id = ?", (production[2], staging[0]))
    with opened(tmp_path) as (vault, _):
        with pytest.raises(VaultDamaged, match=r"'staging' in service 'svc' does not authenticate") as caught:
            at_once(vault.read("svc", ["staging"], {}))
        assert "strong" not in str(caught.value)
        assert values(at_once(vault.read("svc", ["production"], {}))) == ["strong"]  # one bad value stops no other


def test_swapping_value_and_generation_loses(tmp_path: Path) -> None:
    _two_secrets(tmp_path)
    staging, production = _rows(tmp_path)
    with tampering(tmp_path) as db:
        db.execute(
            "UPDATE secrets SET value = ?, generation = ? WHERE id = ?", (production[2], production[3], staging[0])
        )
    _refused(tmp_path)


def test_swapping_whole_rows_under_their_ids_loses(tmp_path: Path) -> None:
    _two_secrets(tmp_path)
    staging, production = _rows(tmp_path)
    with tampering(tmp_path) as db:
        for row_id, other in ((staging[0], production), (production[0], staging)):
            db.execute("UPDATE secrets SET name = ?, value = ?, generation = ? WHERE id = ?", (*other[1:], row_id))
    _refused(tmp_path)


# --- replay: a password that was changed because it leaked is to come back ------------------------------------------


def test_replaying_an_old_row_wins_against_the_naive_store(tmp_path: Path) -> None:
    naive = NaiveStore(tmp_path / "naive.db")
    naive.write("pw", "leaked")
    old = naive.db.execute("SELECT name, value FROM secrets").fetchone()
    naive.write("pw", "changed")
    naive.db.execute("REPLACE INTO secrets VALUES (?, ?)", old)
    assert naive.read("pw") == "leaked"
    naive.db.close()


@pytest.mark.parametrize("columns", [("value",), ("name", "value"), ("name", "value", "generation")])
def test_replaying_an_old_row_loses(tmp_path: Path, columns: tuple[str, ...]) -> None:
    fill(tmp_path, {"pw": "leaked", "other": "x"})
    with tampering(tmp_path) as db:
        old = db.execute(f"SELECT id, {', '.join(columns)} FROM secrets").fetchall()  # noqa: S608
    fill(tmp_path, {"pw": "changed"})
    with tampering(tmp_path) as db:
        for row_id, *parts in old:
            db.execute(f"UPDATE secrets SET {'=?,'.join(columns)}=? WHERE id = ?", (*parts, row_id))  # noqa: S608
    with pytest.raises(VaultDamaged), opened(tmp_path) as (vault, _):
        at_once(vault.read("svc", ["pw"], {}))


def test_bringing_a_deleted_row_back_wins_against_the_naive_store_and_loses_here(tmp_path: Path) -> None:
    naive = NaiveStore(tmp_path / "naive.db")
    naive.write("pw", "revoked")
    row = naive.db.execute("SELECT name, value FROM secrets").fetchone()
    naive.db.execute("DELETE FROM secrets")
    naive.db.execute("INSERT INTO secrets VALUES (?, ?)", row)
    assert naive.read("pw") == "revoked"
    naive.db.close()

    fill(tmp_path, {"pw": "revoked"})
    (old,) = _rows(tmp_path)
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.delete("svc", ["pw"], {}))
    with tampering(tmp_path) as db:
        db.execute("INSERT INTO secrets VALUES (?, ?, ?, ?)", old)
    _refused(tmp_path)


def test_removing_one_row_and_bringing_another_back_loses(tmp_path: Path) -> None:
    """The number of rows is right again; the set is not."""
    fill(tmp_path, {"a": "1", "b": "2"})
    old = _rows(tmp_path)
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.delete("svc", ["a"], {}))
    kept = _rows(tmp_path)[0][0]
    (gone,) = (row for row in old if row[0] != kept)
    with tampering(tmp_path) as db:
        db.execute("DELETE FROM secrets")
        db.execute("INSERT INTO secrets VALUES (?, ?, ?, ?)", gone)
    _refused(tmp_path)


def test_replaying_an_old_long_value_under_a_running_daemon_loses(tmp_path: Path) -> None:
    """Long values are fetched from disk at each read: the one way in while the vault is open."""
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.write("svc", [("long", "old" * 3000)], {}))
        (old,) = _rows(tmp_path)
        runner.run(vault.write("svc", [("long", "new" * 3000)], {}))
        assert values(at_once(vault.read("svc", ["long"], {}))) == ["new" * 3000]
        for attack in (
            "UPDATE secrets SET value = ?3 WHERE id = ?1 AND ?2 = ?2 AND ?4 = ?4",
            "UPDATE secrets SET name = ?2, value = ?3, generation = ?4 WHERE id = ?1",
        ):
            (now,) = _rows(tmp_path)
            with tampering(tmp_path) as db:
                db.execute(attack, old)
            with pytest.raises(VaultDamaged, match="'long'"):
                at_once(vault.read("svc", ["long"], {}))
            with tampering(tmp_path) as db:
                db.execute("UPDATE secrets SET name = ?2, value = ?3, generation = ?4 WHERE id = ?1", now)
            assert values(at_once(vault.read("svc", ["long"], {}))) == ["new" * 3000]
        for statement in ("UPDATE secrets SET value = 7", "DELETE FROM secrets"):
            with tampering(tmp_path) as db:
                db.execute(statement)
            with pytest.raises(VaultDamaged, match="'long'"):
                at_once(vault.read("svc", ["long"], {}))


def test_the_whole_vault_put_back_is_not_noticed(tmp_path: Path) -> None:
    """Our limit, kept here so that nobody believes otherwise: nothing inside a file can show that it is old."""
    fill(tmp_path, {"pw": "leaked"})
    shutil.copy(tmp_path / "vault.db", tmp_path / "yesterday")
    fill(tmp_path, {"pw": "changed"})
    shutil.copy(tmp_path / "yesterday", tmp_path / "vault.db")
    with opened(tmp_path) as (vault, _):
        assert values(at_once(vault.read("svc", ["pw"], {}))) == ["leaked"]


# --- what the file shows ------------------------------------------------------------------------------------------


def test_neither_names_nor_values_are_in_the_files(tmp_path: Path) -> None:
    words = ["Servizio-7", "Ziel-Name", "SecretValue", "env-ironment", "stag-ing"]
    service, target, value, name, tag = words
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.write(service, [(target, value), (target + "2", value * 1000)], {name: tag}))
        live = snapshot(tmp_path)
        assert len(live["vault.db-wal"]) > 10_000
        runner.run(vault.delete(service, [target], {}))
        live["later"] = (tmp_path / "vault.db-wal").read_bytes()
    closed = snapshot(tmp_path)
    for where, data in (*live.items(), *closed.items()):
        for word in words:
            assert word.encode() not in data, (word, where)
    with opened(tmp_path) as (vault, _):
        assert contents(vault) == {(service, target + "2"): (value * 1000, {name: tag})}


def test_equal_secrets_look_different(tmp_path: Path) -> None:
    """In two rows, after writing the same again, and in two vaults."""
    seen: set[bytes] = set()
    for folder in (tmp_path / "one", tmp_path / "two"):
        for _ in range(2):
            fill(folder, {"a": "same", "b": "same"})
            seen.update(part for row in _rows(folder) for part in row[1:3])
    assert len(seen) == 16
    assert {row[0] for row in _rows(tmp_path / "one")}.isdisjoint(row[0] for row in _rows(tmp_path / "two"))
