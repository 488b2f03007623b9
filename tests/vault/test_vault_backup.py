"""Backups: made while the vault is in use, opened by their passphrase alone, restored without losing what was there."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from vault_lab import contents, fill, open_at, opened, snapshot, tampering

from keychain_auth.crypto import strongbox
from keychain_auth.crypto.stretch import Cost
from keychain_auth.errors import UsageError, VaultDamaged, VaultError, VaultKeyMissing, WrongPassphrase
from keychain_auth.keychain.vault import Vault, backup, restore
from keychain_auth.protectors.keyfile import KeyFile

WORDS = "correct horse battery staple"
CHEAP = Cost(memory_kib=64, passes=1, lanes=1)
ENTRIES = {f"target-{number}": f"value {number}" for number in range(30)} | {"long": "x" * 9000}


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    seal = strongbox.seal
    monkeypatch.setattr(strongbox, "seal", lambda *words, cost=CHEAP: seal(*words[:4], CHEAP))


def made(folder: Path) -> bytes:
    with opened(folder) as (vault, runner):
        content: bytes = runner.run(vault.backup(WORDS, "2026-05-21T12:00:00Z"))
    return content


def put_back(folder: Path, content: bytes, words: str = WORDS) -> restore.Restored:
    folder.mkdir(mode=0o700, exist_ok=True)
    key = str(folder / "vault.key")
    return restore.restore(str(folder), backup.unpack("b.kcab", content, words), KeyFile, key, "20260521-120000")


def everything(folder: Path) -> object:
    with opened(folder) as (vault, runner):
        assert runner.run(vault.check()).findings == []
        past = {target: runner.run(vault.history("svc", target)) for target in ("target-0", "gone")}
        return contents(vault), past, vault.audit_key()


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A vault with earlier values, attributes, a long value, and a deleted target."""
    folder = tmp_path / "full"
    fill(folder, dict.fromkeys(ENTRIES, "old") | {"gone": "g"})
    with opened(folder) as (vault, runner):
        runner.run(vault.write("svc", list(ENTRIES.items()), {"env": "prod"}, "/bin/p"))
        runner.run(vault.delete("svc", ["gone"], {}))
    return folder


def test_a_backup_brings_back_everything_on_another_machine(full: Path, tmp_path: Path) -> None:
    before = everything(full)
    content = made(full)
    assert b"value 7" not in content
    done = put_back(tmp_path / "elsewhere", content)
    assert (done.slots, done.aside, done.new_key_file) == (["keyfile"], "", True)
    assert done.report.secrets == 31
    assert everything(tmp_path / "elsewhere") == before
    assert (full / "vault.key").read_bytes() != (tmp_path / "elsewhere" / "vault.key").read_bytes()
    names = {path.name for path in (tmp_path / "elsewhere").iterdir()}
    assert names == {"vault.db", "vault.key", "vault.db.lock"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "elsewhere").iterdir())


def test_a_backup_in_the_place_of_a_newer_vault_puts_that_aside(full: Path) -> None:
    before = everything(full)
    content = made(full)
    fill(full, {"later": "written after the backup"})
    newer = snapshot(full)
    done = put_back(full, content)
    assert not done.new_key_file  # the one that is there fits
    assert everything(full) == before
    aside = Path(done.aside)
    assert aside.name == "before-restore-20260521-120000"
    assert (aside / "vault.db").read_bytes() == newer["vault.db"]
    assert (full / "vault.key").read_bytes() == newer["vault.key"]
    again = put_back(full, content)  # and once more, in the same second
    assert again.aside == done.aside + "-1"
    assert everything(full) == before


def test_a_damaged_vault_and_a_lost_key_come_back(full: Path) -> None:
    before = everything(full)
    content = made(full)
    (full / "vault.key").unlink()
    (full / "vault.db").write_bytes(b"rubbish")
    (full / "vault.db-wal").write_bytes(b"more rubbish")
    done = put_back(full, content)
    assert done.new_key_file
    assert everything(full) == before
    assert {path.name for path in Path(done.aside).iterdir()} == {"vault.db", "vault.db-wal"}


def test_another_vaults_key_is_put_aside_too(full: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    fill(other, {"t": "of the other vault"})
    key = (other / "vault.key").read_bytes()
    before = everything(full)
    done = put_back(other, made(full))
    assert everything(other) == before
    assert (Path(done.aside) / "vault.key").read_bytes() == key
    shutil.move(Path(done.aside), tmp_path / "old")
    with opened(tmp_path / "old") as (vault, _):  # what was put aside is a vault as it was
        assert contents(vault) == {("svc", "t"): ("of the other vault", None)}


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (lambda content: content[:-1], VaultDamaged, "cut or altered at byte"),
        (lambda content: content[: len(content) // 2], VaultDamaged, "cut or altered at byte"),
        (lambda content: content + b"x", VaultDamaged, "cut or altered at byte"),
        (lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:], VaultDamaged, "cut or altered"),
        (lambda content: content.replace(b"backup 1", b"backup 2", 1), VaultDamaged, "does not begin with"),
        (lambda content: content.replace(b"2026", b"2025", 1), VaultDamaged, "cut or altered at byte"),
        (lambda content: content.replace(b'"passes":1', b'"passes":0', 1), VaultDamaged, "header"),
        (lambda content: content.replace(b'"memory_kib":64', b'"memory_kib":99999999', 1), VaultDamaged, "header"),
        (lambda content: content.replace(b'"lanes":1', b'"lanes":2', 1), WrongPassphrase, "not the passphrase"),
        (lambda content: b"", VaultDamaged, "does not begin with"),
        (lambda content: content.partition(b"}\n")[0] + b"}\n", VaultDamaged, "cut or altered at byte"),
    ],
)
def test_what_is_not_a_whole_backup_changes_nothing(full: Path, spoil: object, kind: type, words: str) -> None:
    content = made(full)
    before = snapshot(full)
    with pytest.raises(kind, match=words):
        put_back(full, spoil(content))  # type: ignore[operator]
    assert snapshot(full) == before
    assert not list(full.glob("before-*"))


def test_chunks_cannot_be_left_out_or_exchanged() -> None:
    plain = bytes(range(256)) * 1024  # four chunks
    content = strongbox.seal("backup", WORDS, plain, "now")
    assert strongbox.unseal("backup", WORDS, content) == plain
    front, _, rest = content.partition(b"}\n")
    chunks = []
    while rest:
        length = 4 + int.from_bytes(rest[:4], "big")
        chunks.append(rest[:length])
        rest = rest[length:]
    assert len(chunks) == 4
    a, b, c, d = chunks
    for wrong in ([a, b, c], [a, c, b, d], [b, c, d], [a, b, c, d, d], [a, d], []):
        with pytest.raises(strongbox.NotAStrongbox):
            strongbox.unseal("backup", WORDS, front + b"}\n" + b"".join(wrong))
    with pytest.raises(strongbox.NotAStrongbox):
        strongbox.unseal("another purpose", WORDS, content)
    assert strongbox.unseal("empty", WORDS, strongbox.seal("empty", WORDS, b"", "now")) == b""


def test_the_passphrase_alone_opens_it(full: Path) -> None:
    content = made(full)
    for wrong in ("", WORDS + " ", WORDS.upper()):
        with pytest.raises(WrongPassphrase):
            backup.unpack("b.kcab", content, wrong)
    with opened(full) as (vault, runner), pytest.raises(UsageError, match="at least 8"):
        runner.run(vault.backup("short", "now"))


def test_a_damaged_vault_gives_no_backup_that_looks_well(full: Path, tmp_path: Path) -> None:
    with opened(full) as (vault, runner):
        with tampering(full) as db:
            db.execute("UPDATE history SET value = zeroblob(40)")
        with pytest.raises(VaultDamaged, match="no backup was made"):
            runner.run(vault.backup(WORDS, "now"))
        image = backup.snapshot(vault.path)
        content = strongbox.seal("backup", WORDS, bytes(vault._key) + image, "now")  # made by somebody who did not look
    with pytest.raises(VaultDamaged, match="the vault in the backup is damaged"):
        put_back(tmp_path / "new", content)
    assert [path.name for path in (tmp_path / "new").iterdir()] == []


def test_a_backup_beside_changes_is_one_moment(full: Path, tmp_path: Path) -> None:
    async def story(vault: Vault) -> list[bytes]:
        written, enough = asyncio.Event(), asyncio.Event()

        async def change() -> None:
            number = 0
            while not enough.is_set():
                await vault.write("svc", [("a", str(number)), ("b", str(number)), ("c", "x" * 5000)], {})
                number += 1
                written.set()

        changing = asyncio.create_task(change())
        found = []
        for _ in range(5):
            await written.wait()
            written.clear()
            found.append(await vault.backup(WORDS, "now"))
        enough.set()
        await changing
        return found

    with opened(full) as (vault, runner):
        copies = runner.run(story(vault))
    numbers = set()
    for at, content in enumerate(copies):
        put_back(tmp_path / str(at), content)
        with opened(tmp_path / str(at)) as (vault, runner):
            assert runner.run(vault.check()).ok
            found = contents(vault)
        assert found.get(("svc", "a")) == found.get(("svc", "b"))
        numbers.add(found.get(("svc", "a")))
    assert len(numbers) > 1


def test_a_restoration_that_was_cut_off_is_named_and_can_be_repeated(full: Path) -> None:
    before = everything(full)
    content = made(full)
    (full / "vault.db.restoring").write_text(f"{full}/before-restore-x\n")
    (full / "vault.db.restoring").chmod(0o600)
    for name in ("vault.db", "vault.key"):
        (full / name).unlink()  # the worst moment: nothing of a vault is in its place
    with pytest.raises(VaultError, match=r"a restoration of .* was cut off") as caught:
        open_at(full)
    assert "before-restore-x" in str(caught.value)
    assert not (full / "vault.db").exists()
    put_back(full, content)
    assert everything(full) == before


def test_a_backup_of_an_older_format_is_brought_to_ours(tmp_path: Path) -> None:
    from test_vault_samples import sample

    (tmp_path / "old").mkdir()
    expected = sample("format-1", tmp_path / "old")
    image = (tmp_path / "old" / "vault.db").read_bytes()
    kek = KeyFile(str(tmp_path / "old" / "vault.key"))
    from keychain_auth.keychain.vault.opening import peek_slots
    from keychain_auth.keychain.vault.slots import open_one

    key = memoryview(bytearray(32))
    with tampering(tmp_path / "old") as db:
        vault_id = db.execute("SELECT value FROM meta WHERE name = 'vault_id'").fetchone()[0]
    open_one("x", peek_slots(str(tmp_path / "old")), vault_id, [kek], key)
    content = strongbox.seal("backup", WORDS, bytes(key) + image, "now")
    done = put_back(tmp_path / "new", content)
    assert done.report.secrets == len(expected)
    with opened(tmp_path / "new") as (vault, _):
        assert len(contents(vault)) == len(expected)
    (tmp_path / "new" / "vault.key").unlink()
    with pytest.raises(VaultKeyMissing):
        open_at(tmp_path / "new")


def test_a_look_at_a_backup_leaves_nothing_behind(full: Path, tmp_path: Path) -> None:
    content = made(full)
    report = restore.look(str(tmp_path), backup.unpack("b.kcab", content, WORDS))
    assert (report.secrets, report.earlier_values, report.findings) == (31, 32, [])
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_an_existing_file_is_not_overwritten(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.kcab"
    backup.write_new(str(path), b"first")
    with pytest.raises(UsageError, match="exists already"):
        backup.write_new(str(path), b"second")
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
