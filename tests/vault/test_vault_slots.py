"""Key slots of a real vault: added, removed, renewed, tampered with; and a new vault key."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from vault_lab import Child, at_once, contents, fill, opened, tampering, values

from keychain_auth.crypto.envelope import Protector
from keychain_auth.errors import (
    KeychainError,
    UsageError,
    VaultDamaged,
    VaultError,
    VaultKeyMissing,
    VaultLocked,
    WrongPassphrase,
)
from keychain_auth.keychain.vault import Keys, Vault, open_vault, peek_slots
from keychain_auth.protectors.keyfile import KeyFile
from keychain_auth.protectors.passphrase import Passphrase
from keychain_auth.protectors.recovery import RecoveryCode

WORDS = "six random words are better"
LONG = "x" * 20_000  # such a value stays on the disk


def words(text: str = WORDS) -> Passphrase:
    return Passphrase(text, seconds=0.001)


def key_file(folder: Path) -> KeyFile:
    return KeyFile(str(folder / "vault.key"))


def opens(folder: Path, *protectors: Protector) -> dict[tuple[str, str], object]:
    """What the vault holds when these open it."""
    vault = open_vault(str(folder), protectors)
    try:
        return dict(contents(vault))
    finally:
        asyncio.run(vault.close())


def add(folder: Path, *protectors: Protector) -> None:
    with opened(folder) as (vault, runner):
        for protector in protectors:
            runner.run(Keys(vault).add(protector))


def test_each_slot_opens_the_same_vault(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "1", "b": LONG})
    code = RecoveryCode()
    add(tmp_path, words(), code)
    assert [slot.kind for slot in peek_slots(str(tmp_path))] == ["keyfile", "passphrase", "recovery"]
    expected = opens(tmp_path, key_file(tmp_path))
    assert len(expected) == 2
    assert opens(tmp_path, words()) == expected
    assert opens(tmp_path, code) == expected
    with pytest.raises(WrongPassphrase):
        opens(tmp_path, words("something else entirely"))
    with pytest.raises(WrongPassphrase):
        opens(tmp_path, RecoveryCode())


def test_no_slot_of_the_own_rows_is_seen(tmp_path: Path) -> None:
    add(tmp_path, words())
    with opened(tmp_path) as (vault, runner):
        assert at_once(vault.services()) == []
        assert vault.health()["secrets"] == 0
        runner.run(vault.keep_own("policy", "text"))
        assert vault.own("policy") == "text"
        runner.run(vault.keep_own("policy", None))
        runner.run(vault.keep_own("policy", None))
        assert vault.own("policy") is None
    assert opens(tmp_path, words()) == {}


def test_without_the_key_file_only_a_person_opens_it(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "1"})
    add(tmp_path, words())
    with opened(tmp_path) as (vault, runner):
        removed = runner.run(Keys(vault).remove(1))
        assert removed.kind == "keyfile"
        key_file(tmp_path).withdraw({})
        key_file(tmp_path).withdraw({})
        with pytest.raises(UsageError, match="last key slot"):
            runner.run(Keys(vault).remove(2))
        with pytest.raises(UsageError, match="no key slot 7"):
            runner.run(Keys(vault).remove(7))
    with pytest.raises(VaultLocked) as caught:
        opens(tmp_path, key_file(tmp_path))
    assert caught.value.reason == "keychain_locked"
    assert len(opens(tmp_path, words())) == 1


def test_a_lost_vault_without_any_key_file_is_no_first_start(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "1"})
    add(tmp_path, words())
    with opened(tmp_path) as (vault, runner):
        runner.run(Keys(vault).remove(1))
    key_file(tmp_path).withdraw({})
    (tmp_path / "vault.db").unlink()
    with pytest.raises(VaultError, match="says that there was one"):
        opens(tmp_path, key_file(tmp_path))
    assert not (tmp_path / "vault.db").exists()


def test_a_missing_vault_is_not_made_for_a_passphrase(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="is missing"):
        open_vault(str(tmp_path), [words()], makers=[])
    assert not (tmp_path / "vault.db").exists()


def test_does_it_fit(tmp_path: Path) -> None:
    add(tmp_path, words())
    with opened(tmp_path) as (vault, runner):
        assert runner.run(Keys(vault).fit([words()]))
        assert not runner.run(Keys(vault).fit([words("another one, also long")]))
        assert not runner.run(Keys(vault).fit([RecoveryCode()]))


def test_a_slot_is_renewed(tmp_path: Path) -> None:
    add(tmp_path, words())
    with opened(tmp_path) as (vault, runner):
        runner.run(Keys(vault).renew(2, words("the new passphrase")))
        with pytest.raises(UsageError, match="no key slot"):
            runner.run(Keys(vault).renew(9, words()))
    assert opens(tmp_path, words("the new passphrase")) == {}
    with pytest.raises(WrongPassphrase):
        opens(tmp_path, words())


def test_a_slot_that_cannot_be_kept_leaves_no_key_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, words())
    with opened(tmp_path) as (vault, runner):
        runner.run(Keys(vault).remove(1))
        key_file(tmp_path).withdraw({})

        def full(*_: object) -> None:
            raise KeychainError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(vault._writer, "keep", full)
            with pytest.raises(KeychainError, match="full"):
                runner.run(Keys(vault).add(key_file(tmp_path)))
        assert not (tmp_path / "vault.key").exists()
        assert [slot.kind for slot in vault.slots] == ["passphrase"]
        assert runner.run(Keys(vault).add(key_file(tmp_path))) == 3
    assert opens(tmp_path, key_file(tmp_path)) == {}


# --- tampering --------------------------------------------------------------------------------


def test_a_slot_that_is_removed_from_the_file_is_noticed(tmp_path: Path) -> None:
    """Against a vault that only looked at what is there, this took the passphrase (and with it the seal) away."""
    add(tmp_path, words())
    with tampering(tmp_path) as db:
        db.execute("DELETE FROM slots WHERE kind = 'passphrase'")
    assert [slot.kind for slot in peek_slots(str(tmp_path))] == ["keyfile"]  # what a naive look says
    with pytest.raises(VaultDamaged, match="one was removed, or brought back"):
        opens(tmp_path, key_file(tmp_path))


def test_a_slot_that_was_removed_cannot_be_brought_back(tmp_path: Path) -> None:
    add(tmp_path, words("the leaked passphrase"), words())
    with tampering(tmp_path) as db:
        old = db.execute("SELECT * FROM slots WHERE id = 2").fetchone()
    with opened(tmp_path) as (vault, runner):
        runner.run(Keys(vault).remove(2))
    with pytest.raises(WrongPassphrase):
        opens(tmp_path, words("the leaked passphrase"))
    with tampering(tmp_path) as db:
        db.execute("INSERT INTO slots VALUES (?, ?, ?, ?)", old)
    with pytest.raises(VaultDamaged, match="brought back"):
        opens(tmp_path, words("the leaked passphrase"))


def test_a_cheaper_passphrase_slot_does_not_open(tmp_path: Path) -> None:
    add(tmp_path, words())
    with tampering(tmp_path) as db:
        (params,) = db.execute("SELECT params FROM slots WHERE id = 2").fetchone()
        db.execute("UPDATE slots SET params = ? WHERE id = 2", (params.replace('"65536"', '"64"'),))
    with pytest.raises(WrongPassphrase):
        opens(tmp_path, words())
    with tampering(tmp_path) as db:
        db.execute("UPDATE slots SET params = ? WHERE id = 2", ("{}",))
    with pytest.raises((VaultDamaged, VaultLocked), match="slot 2"):
        opens(tmp_path, words())


# --- a new vault key --------------------------------------------------------------------------


def rekey(vault: Vault, folder: Path, makers: Sequence[Protector] = ()) -> object:
    return Keys(vault).rekey([key_file(folder), words()], makers)


def test_a_rekeyed_vault_holds_the_same_under_other_keys(tmp_path: Path) -> None:
    fill(tmp_path, {f"t{number}": f"value {number}" for number in range(1200)})
    fill(tmp_path, {"long": LONG}, "other")
    add(tmp_path, words())
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.write("svc", [("t1", "with attributes")], {"stage": "prod"}))
        before, audit_key = contents(vault), vault.audit_key()
        runner.run(rekey(vault, tmp_path))
        assert contents(vault) == before
        assert vault.audit_key() == audit_key
        runner.run(vault.write("svc", [("new", "after")], {}))
        runner.run(vault.delete("svc", ["t5"], {}))
        assert values(at_once(vault.read("svc", ["new", "t1"], {"stage": "prod"}))) == ["with attributes"]
        runner.run(rekey(vault, tmp_path))
        after = contents(vault)
    assert opens(tmp_path, key_file(tmp_path)) == after
    assert opens(tmp_path, words()) == after
    with opened(tmp_path) as (vault, _):
        assert vault.audit_key() == audit_key


def test_an_old_key_opens_nothing_of_a_rekeyed_vault(tmp_path: Path) -> None:
    """A slot is removed, but its owner kept the file: without a new key that opens every later copy."""
    fill(tmp_path, {"a": "1"})
    add(tmp_path, words())
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(tmp_path / "vault.db", old)
    with opened(tmp_path) as (vault, runner):
        runner.run(Keys(vault).remove(2))
    stolen = open_vault(str(old), [words()])
    key = bytes(stolen._key)
    asyncio.run(stolen.close())
    with opened(tmp_path) as (vault, runner):
        assert bytes(vault._key) == key  # the naive way: removing a slot alone
        runner.run(Keys(vault).rekey([key_file(tmp_path)]))
        assert bytes(vault._key) != key
    assert opens(tmp_path, key_file(tmp_path))


def test_a_rekey_loses_no_slot_in_silence(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "1"})
    add(tmp_path, words(), RecoveryCode())
    with opened(tmp_path) as (vault, runner):
        with pytest.raises(UsageError, match=r"slot 3 \(recovery\) cannot be opened"):
            runner.run(rekey(vault, tmp_path))
        fresh = RecoveryCode()
        runner.run(rekey(vault, tmp_path, [fresh]))
    assert len(opens(tmp_path, fresh)) == 1


def test_a_damaged_value_stops_a_rekey_and_nothing_changes(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "1", "b": "2"})
    with opened(tmp_path) as (vault, runner):
        with tampering(tmp_path) as db:
            db.execute("UPDATE secrets SET value = zeroblob(40) WHERE rowid = 1")
        with pytest.raises(VaultDamaged, match="it was not rekeyed"):
            runner.run(Keys(vault).rekey([key_file(tmp_path)]))
        runner.run(vault.write("svc", [("a", "3"), ("c", "4")], {}))
    with opened(tmp_path) as (vault, _):
        assert values(at_once(vault.read("svc", ["a", "b", "c"], {}))) == ["3", "2", "4"]


def test_a_long_value_is_read_while_the_vault_is_rekeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"long": LONG})
    with opened(tmp_path) as (vault, runner):
        seen: list[object] = []
        real = vault._writer.rekey

        def rekeyed(*arguments: object) -> object:
            result = real(*arguments)  # type: ignore[arg-type]
            seen.extend(values(at_once(vault.read("svc", ["long"], {}))))  # committed, not yet in the index
            return result

        monkeypatch.setattr(vault._writer, "rekey", rekeyed)
        runner.run(Keys(vault).rekey([key_file(tmp_path)]))
        assert seen == [LONG]
        assert values(at_once(vault.read("svc", ["long"], {}))) == [LONG]


def test_a_rekey_that_is_killed_leaves_the_old_key_or_the_new_one(tmp_path: Path) -> None:
    fill(tmp_path, {f"t{number}": "v" * 100 for number in range(3000)})

    def work(fd: int) -> None:
        with opened(tmp_path) as (vault, runner):
            os.write(fd, b"r")
            for _ in range(50):
                runner.run(Keys(vault).rekey([key_file(tmp_path)]))
                os.write(fd, b".")

    for pause in range(6):
        child = Child(work)
        assert os.read(child.pipe, 1) == b"r"
        for _ in range(pause):
            os.read(child.pipe, 1)
        child.kill()
        assert len(opens(tmp_path, key_file(tmp_path))) == 3000


def test_a_closed_vault_has_no_keys_left(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "1"})
    vault = open_vault(str(tmp_path), [key_file(tmp_path)])
    key, codec = vault._key, vault._codec
    assert any(codec._index_key)
    asyncio.run(vault.close())
    assert bytes(key) == bytes(32)
    assert not any(any(buffer) for buffer in codec._keys.values())


def test_a_missing_key_file_beside_a_passphrase_says_both(tmp_path: Path) -> None:
    add(tmp_path, words())
    (tmp_path / "vault.key").unlink()
    with pytest.raises(VaultLocked, match=r"locked \(the vault is there, but its key file"):
        opens(tmp_path, key_file(tmp_path))
    with pytest.raises(VaultKeyMissing):
        KeyFile(str(tmp_path / "vault.key")).unwrap_key({})


def test_a_rekey_keeps_the_earlier_values(tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        fill(tmp_path, {"a": text, "b": text})
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.delete("svc", ["b"], {}))
        before = [runner.run(vault.history("svc", name)) for name in "ab"]
        runner.run(Keys(vault).rekey([key_file(tmp_path)]))
        assert [runner.run(vault.history("svc", name)) for name in "ab"] == before
        runner.run(vault.restore_value("svc", "a", 2))
    with opened(tmp_path) as (vault, runner):
        assert values(at_once(vault.read("svc", ["a"], {}))) == ["one"]
        assert len(runner.run(vault.history("svc", "b"))) == 3
