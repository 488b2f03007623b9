"""Another program opens and closes the file of an open vault: nothing is deleted under us, nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from vault_lab import fill, opened, placed

from keychain_auth.errors import UnsafeFile
from keychain_auth.keychain.vault import peek_slots
from keychain_auth.keychain.vault.database import Reader

_CHANGE = """
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as db, db:
    db.execute("UPDATE history SET value = zeroblob(40)")
"""
_COUNT = """
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)) as db:
    print(db.execute("SELECT count(*) FROM secrets").fetchone()[0])
"""


def _another(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder / "vault.db")], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _look(folder: Path) -> None:
    assert [slot.kind for slot in peek_slots(str(folder))] == ["keyfile"]


def _look_in_vain(folder: Path) -> None:
    (folder / "vault.db").chmod(0o666)
    with pytest.raises(UnsafeFile):
        peek_slots(str(folder))
    (folder / "vault.db").chmod(0o600)


LOOKS = [_look, pytest.param(_look_in_vain, marks=pytest.mark.skipif(os.name == "nt", reason="modes are POSIX"))]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("times", [1, 3])
def test_the_log_stays_when_slots_were_looked_at(tmp_path: Path, look: Callable[[Path], None], times: int) -> None:
    fill(tmp_path, {"a": "1"})
    with opened(tmp_path) as (vault, runner):
        for _ in range(times):
            look(tmp_path)
        log = (tmp_path / "vault.db-wal").stat().st_ino
        _another(_CHANGE, tmp_path)
        assert (tmp_path / "vault.db-wal").stat().st_ino == log
        runner.run(vault.write("svc", [("b", "2")], {}))
        placed(vault)
        assert _another(_COUNT, tmp_path) == "2"  # what is durable is in the file that others see
        assert runner.run(vault.check()).ok
    assert _another(_COUNT, tmp_path) == "2"


def test_a_look_between_the_first_connection_and_the_open_vault(tmp_path: Path) -> None:
    """As the daemon looks at its start, and as a status does in another thread while a person unlocks."""
    fill(tmp_path, {"a": "1"})
    reader = Reader(str(tmp_path / "vault.db"))
    reader.ask("SELECT name FROM meta")
    thread = threading.Thread(target=_look, args=(tmp_path,))
    thread.start()
    thread.join()
    _another(_CHANGE, tmp_path)
    assert (tmp_path / "vault.db-wal").exists()
    assert reader.ask("SELECT count(*) FROM secrets") == [(1,)]
    reader.close()


@pytest.mark.skipif(os.name == "nt" or not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_many_looks_keep_one_descriptor_until_the_vault_is_closed(tmp_path: Path) -> None:
    def descriptors() -> int:
        paths = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return sum(os.path.islink(path) and os.readlink(path) == str(tmp_path / "vault.db") for path in paths)

    fill(tmp_path, {"a": "1"})
    with opened(tmp_path):
        counts = []
        for _ in range(5):
            _look(tmp_path)
            counts.append(descriptors())
        assert counts[1:] == counts[:1] * 4
    assert descriptors() == 0
    _look(tmp_path)
    assert descriptors() == 0
