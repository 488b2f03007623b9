"""What is read from files that somebody may have changed: vault and its log, key, backup, signature, audit log.

Each works on copies in memory or in a folder of its own, and compares with what the whole file says.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

from fuzz.engine import Target

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "vault"), str(TESTS / "audit")]

from audit_lab import KEY, make_record  # noqa: E402
from vault_lab import at_once, contents, open_at  # noqa: E402

from keychain_auth.audit.log import AuditLog  # noqa: E402
from keychain_auth.audit.verify import verify  # noqa: E402
from keychain_auth.crypto import ed25519, strongbox  # noqa: E402
from keychain_auth.crypto.stretch import Cost  # noqa: E402
from keychain_auth.errors import AuditError, KeychainAuthError, UnsafeFile, VaultError  # noqa: E402
from keychain_auth.identity.signature import MAGIC, SIGNATURE_BYTES, TAIL_BYTES, parse_trailer  # noqa: E402
from keychain_auth.protectors.keyfile import KeyFile  # noqa: E402

SAMPLES = TESTS / "vault" / "samples"
SIDECARS = ("-wal", "-shm")
_HOME = Path(tempfile.mkdtemp(prefix="ka-fuzz-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)


def _folder(name: str) -> Path:
    folder = _HOME / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


# --- the vault ----------------------------------------------------------------------------------


def _sample(name: str) -> tuple[dict[str, bytes], list[object]]:
    folder = SAMPLES / name
    files = {path.name: path.read_bytes() for path in folder.glob("vault.*")}
    return files, json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def _look(folder: Path) -> list[object] | None:
    """What the vault holds; None if it says that it is damaged. Raises what must not be raised."""
    before = {
        path.name: path.read_bytes() for path in folder.glob("vault.*") if path.suffix not in (".lock", ".db-shm")
    }
    try:
        vault = open_at(folder)
    except KeychainAuthError as error:
        assert error.hint, f"no way out: {error}"
        for name, data in before.items():
            if data and not name.endswith("-shm"):
                assert (folder / name).read_bytes() == data, f"looking at it changed {name}"
        return None
    try:
        return sorted([service, target, *rest] for (service, target), rest in contents(vault).items())  # type: ignore[type-var]
    except KeychainAuthError:
        return None
    finally:
        at_once(vault.close())


def _try_vault(files: dict[str, bytes], may_be: list[list[object]]) -> None:
    folder = _folder("vault")
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        _put(folder / name, data)
    found = _look(folder)
    assert found is None or found in may_be, "it opens with what was never in it"


_WHOLE, _HELD = _sample("format-1")
_CRASHED, _HELD_AFTER = _sample("format-1-crashed")
_WAITING, _HELD_WAITING = _sample("format-3-crashed")
_HELD_BEFORE = [row for row in _HELD_AFTER if row[1] != "after"]  # type: ignore[index]


def check_vault(data: bytes) -> None:
    """A changed vault.db: right, or damaged; never wrong, never empty, never touched."""
    _try_vault({**_WHOLE, "vault.db": data}, [_HELD])


def check_vault_log(data: bytes) -> None:
    """A changed log beside a whole vault.db: one of the states that were committed, or damaged."""
    _try_vault({**_CRASHED, "vault.db-wal": data}, [_HELD_AFTER, _HELD_BEFORE, *_prefixes(_CRASHED)])


def check_vault_journal(data: bytes) -> None:
    """The same of a log that holds writes whose rows were still to be made."""
    _try_vault({**_WAITING, "vault.db-wal": data}, [_HELD_WAITING, *_prefixes(_WAITING)])


def _prefixes(files: dict[str, bytes]) -> list[list[object]]:
    """What the sample held after each of its transactions, for the log may end at any of them."""
    log = files["vault.db-wal"]
    if log not in _PREFIXES:
        known = _PREFIXES[log] = []
        for end in range(0, len(log) + 1, 24 + 4096):
            folder = _folder("prefix")
            for path in folder.iterdir():
                path.unlink()
            for name, data in {**files, "vault.db-wal": log[: end + 32 if end else 0]}.items():
                _put(folder / name, data)
            with contextlib.suppress(AssertionError):
                found = _look(folder)
                if found is not None and found not in known:
                    known.append(found)
    return _PREFIXES[log]


_PREFIXES: dict[bytes, list[list[object]]] = {}


def check_key_file(data: bytes) -> None:
    """A changed key file: the same key, or an error that says so."""
    path = _folder("key") / "vault.key"
    _put(path, data)
    try:
        key = KeyFile(str(path)).unwrap_key({"key_id": _KEY_ID})
    except (VaultError, UnsafeFile):
        return
    assert data == _WHOLE["vault.key"]
    assert key


_KEY_ID = _WHOLE["vault.key"].split(b"\n")[1].removeprefix(b"id ").decode()

# --- backup, signature --------------------------------------------------------------------------

_PLAIN = bytes(range(256)) * 600
_BACKUP = strongbox.seal("backup", "correct horse", _PLAIN, "2026-05-21T12:00:00Z", Cost(64, 1, 1))
_SMALL = strongbox.seal("backup", "correct horse", b"small", "2026-05-21T12:00:00Z", Cost(64, 1, 1))


def check_backup(data: bytes) -> None:
    """A changed backup: what was put in, or an error."""
    if b'"memory_kib":64,' not in data[:400] or b'"passes":1,' not in data[:400]:
        return  # a cost that a fuzzer does not want to pay; its bounds have their own test
    try:
        plain = strongbox.unseal("backup", "correct horse", data)
    except (strongbox.NotAStrongbox, strongbox.WrongKey):
        return
    assert (data, plain) in ((_BACKUP, _PLAIN), (_SMALL, b"small")), "it opens, and is not what was sealed"


_SIGNER = ed25519.SigningKey.generate()
_BODY = b"\x7fELF" + bytes(range(200))
_SIGNED = _BODY + _SIGNER.sign(_BODY) + MAGIC


def check_signature(data: bytes) -> None:
    """The end of a program: no signature, one of an unknown form, or one that fits these very bytes."""
    trailer = parse_trailer(data[-TAIL_BYTES:], len(data))
    if trailer is None:
        assert not data.endswith(MAGIC) or len(data) < SIGNATURE_BYTES + len(MAGIC)
        return
    assert 0 <= trailer.covered == len(data) - SIGNATURE_BYTES - len(MAGIC)
    assert len(trailer.signature) == SIGNATURE_BYTES
    if trailer.build is not None:
        assert 0 <= trailer.build < 2**63
    if ed25519.verify_short(_SIGNER.public, trailer.signature, data[: trailer.covered]):
        assert data == _SIGNED, "other bytes than were signed"


# --- the audit log ------------------------------------------------------------------------------


def _audit_files() -> dict[str, bytes]:
    folder = _folder("audit-whole")
    log = AuditLog.open(
        str(folder / "audit.log"), KEY, max_bytes=1200, keep=3, now=iter(range(10**18, 10**19, 10**9)).__next__
    )
    for number in range(6):
        log.append([make_record(f"t{number}", reason="ünï\x1b" if number == 3 else None)])
    log.close()
    return {path.name: path.read_bytes() for path in folder.glob("audit*") if path.suffix != ".lock"}


_AUDIT = _audit_files()
_LOG = _AUDIT["audit.log"]


def _audit_folder(changed: dict[str, bytes]) -> Path:
    folder = _folder("audit")
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    for name, data in {**_AUDIT, **changed}.items():
        _put(folder / name, data)
    return folder


def check_audit(data: bytes) -> None:
    """A changed log never passes, and never stops who looks."""
    folder = _audit_folder({"audit.log": data})
    try:
        report = verify(str(folder / "audit.log"), KEY)
    except (AuditError, UnsafeFile):
        return
    assert report.ok == (data == _LOG), (report.ok, report.first_problem)


def check_audit_head(data: bytes) -> None:
    """A changed head never makes a log pass that its own head would not, and never stops who looks."""
    folder = _audit_folder({"audit.head": data})
    try:
        verify(str(folder / "audit.log"), KEY)
        for line in (folder / "audit.log").read_bytes().splitlines(keepends=True)[:1]:
            _put(folder / "audit.log", _LOG.replace(line, b"", 1))
        assert not verify(str(folder / "audit.log"), KEY).ok
    except (AuditError, UnsafeFile):
        return


def check_audit_resume(data: bytes) -> None:
    """A daemon that finds such a log goes on, and removes no whole line of it. That it was changed, ``verify`` says."""
    folder = _audit_folder({"audit.log": data})
    try:
        log = AuditLog.open(str(folder / "audit.log"), KEY, keep=3)
    except (AuditError, UnsafeFile):
        return
    log.append([make_record("after")])
    log.close()
    written = b"".join(path.read_bytes() for path in sorted(folder.glob("audit.log*")))
    assert b"after" in written
    for line in data.splitlines(keepends=True):
        if line.endswith(b"\n") and line in _LOG:
            assert line in written, "a line of the log is gone"


_SQL = [b"SQLite format 3\0", b"KCAV", b"CREATE TRIGGER t AFTER INSERT ON secrets BEGIN DELETE FROM secrets; END"]
_CHAIN = [
    b'"seq":',
    b'"chain":"',
    b'"timestamp":"',
    b"\n",
    b'"previous":',
    b"\xff",
    b"{}\n",
    b"\0",
    b'"action":"log_start"',
]
_HEADER = [
    b'"check":"',
    b'"salt":"',
    b'"passes":1,',
    b'"lanes":1,',
    b"keychain-auth backup 1\n",
    b"}\n",
    b"keychain-auth",
]
_PAGES = [_WHOLE["vault.db"][at : at + 4096] for at in range(0, len(_WHOLE["vault.db"]), 4096)]

FILE_TARGETS = [
    Target("vault", check_vault, [_WHOLE["vault.db"]], [*_SQL, *_PAGES, bytes(4096)]),
    Target("vault-log", check_vault_log, [_CRASHED["vault.db-wal"]], [bytes(32), *_PAGES]),
    Target("vault-journal", check_vault_journal, [_WAITING["vault.db-wal"]], [bytes(32), *_PAGES]),
    Target(
        "key-file", check_key_file, [_WHOLE["vault.key"]], [b"keychain-auth key file 1\n", b"id ", b"key ", b"\n", b"="]
    ),
    Target("backup", check_backup, [_BACKUP, _SMALL], _HEADER),
    Target("signature", check_signature, [_SIGNED, MAGIC, _BODY], [MAGIC, b"KCA-META", bytes(41), b"\0\0\0\x29"]),
    Target("audit", check_audit, [_LOG], _CHAIN),
    Target("audit-head", check_audit_head, [_AUDIT["audit.head"]], _CHAIN),
    Target("audit-resume", check_audit_resume, [_LOG], _CHAIN),
]
