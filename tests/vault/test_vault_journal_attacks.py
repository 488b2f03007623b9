"""The vault's journal and who can write the file, but has no key."""

from __future__ import annotations

from pathlib import Path

import pytest
from journal_lab import entries, three_writes
from vault_lab import at_once, contents, open_at, opened, placed, snapshot, tampering, values

from keychain_auth.errors import VaultDamaged
from keychain_auth.keychain.vault import Vault, changing, journal


@pytest.fixture(autouse=True)
def _no_rows_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changing, "_QUIET_SECONDS", 3600.0)


def _naive(vault: Vault, folder: Path) -> dict[str, str]:
    """A journal whose entries are sealed, each for itself, and nothing more: what it says that there is."""
    found = {}
    for generation, blob in entries(folder):
        entry = journal.from_blob(vault._codec, blob, generation)
        for record in entry.records():
            assert record.blob is not None
            found[record.target] = vault._codec.open_value(record.blob, record.context)
    return found


ATTACKS = {
    "the last write taken back": "DELETE FROM journal WHERE generation = (SELECT max(generation) FROM journal)",
    "one in the middle taken out": (
        "DELETE FROM journal WHERE generation = (SELECT generation FROM journal ORDER BY generation LIMIT 1 OFFSET 1)"
    ),
    "all taken out": "DELETE FROM journal",
    "one under another number": "UPDATE journal SET generation = generation + 1",
    "two exchanged": (
        "UPDATE journal SET batch = (SELECT batch FROM journal j WHERE j.generation != journal.generation LIMIT 1)"
    ),
    "altered": "UPDATE journal SET batch = substr(batch, 1, length(batch) - 1) || x'00'",
    "no blob": "UPDATE journal SET batch = 'text'",
    "a number that was never given": (
        "UPDATE journal SET generation = 9223372036854775807 WHERE generation = (SELECT max(generation) FROM journal)"
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_altered_journal_is_refused(tmp_path: Path, attack: str) -> None:
    died = three_writes(tmp_path)
    with tampering(died) as db:
        db.execute(attack)
    before = snapshot(died)
    with pytest.raises(VaultDamaged, match="journal"):
        open_at(died)
    assert {name: data for name, data in snapshot(died).items() if name != "vault.db-wal"} == {
        name: data for name, data in before.items() if name != "vault.db-wal"
    }


def test_taking_a_write_back_wins_against_a_naive_journal(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        for value in ("leaked", "changed"):
            runner.run(vault.write("svc", [("password", value)], {}))
        assert _naive(vault, tmp_path) == {"password": "changed"}
        with tampering(tmp_path) as db:
            db.execute(ATTACKS["the last write taken back"])
        assert _naive(vault, tmp_path) == {"password": "leaked"}


def test_a_write_brought_back_wins_against_a_naive_journal_and_loses(tmp_path: Path) -> None:
    """An entry whose rows were made is authentic for ever. Put back, it would write its old value over the new one."""
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.write("svc", [("password", "leaked")], {}))
        (old,) = entries(tmp_path)
        runner.run(vault.write("svc", [("password", "changed")], {}))
        placed(vault)
        with tampering(tmp_path) as db:
            db.execute("INSERT INTO journal VALUES (?, ?)", old)
        assert _naive(vault, tmp_path) == {"password": "leaked"}
    with pytest.raises(VaultDamaged, match="brought back"):
        open_at(tmp_path)


def test_neither_names_nor_values_are_in_an_entry(tmp_path: Path) -> None:
    words = ["Servizio-7", "Ziel-Name", "SecretValue", "env-ironment", "stag-ing", "/usr/bin/who"]
    service, target, value, name, tag, program = words
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.write(service, [(target, value)], {name: tag}, program))
        assert len(entries(tmp_path)) == 1
        for where, data in snapshot(tmp_path).items():
            for word in words:
                assert word.encode() not in data, (word, where)


def test_a_row_altered_in_use_loses_no_write(tmp_path: Path) -> None:
    """Its place cannot be taken; what was written waits in the journal, and every other change says what is wrong."""
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.write("svc", [("t", "1")], {}))
        placed(vault)
        with tampering(tmp_path) as db:
            db.execute("UPDATE secrets SET generation = -generation")
        runner.run(vault.write("svc", [("t", "2"), ("u", "2")], {}))
        for _ in range(2):
            with pytest.raises(VaultDamaged, match="never given"):
                runner.run(vault.delete("svc", ["u"], {}))
            assert values(at_once(vault.read("svc", ["t", "u"], {}))) == ["2", "2"]
        with tampering(tmp_path) as db:
            db.execute("UPDATE secrets SET generation = -generation")
        runner.run(vault.delete("svc", ["u"], {}))
    with opened(tmp_path) as (vault, _):
        assert contents(vault) == {("svc", "t"): ("2", None)}
