"""A vault whose writes wait in its journal, and what lies there."""

from __future__ import annotations

import shutil
from pathlib import Path

from vault_lab import opened, placed, tampering


def entries(folder: Path) -> list[tuple[int, bytes]]:
    with tampering(folder) as db:
        return db.execute("SELECT generation, batch FROM journal ORDER BY generation").fetchall()


def crashed(folder: Path, copy: Path) -> Path:
    """The files as a death at this moment would leave them."""
    copy.mkdir()
    for name in ("vault.db", "vault.db-wal", "vault.key"):
        shutil.copy(folder / name, copy / name)
    return copy


def three_writes(folder: Path) -> Path:
    """A vault that died with three writes in its journal."""
    (folder / "origin").mkdir(mode=0o700)
    with opened(folder / "origin") as (vault, runner):
        runner.run(vault.write("svc", [("a", "1"), ("b", "1")], {}, "/bin/one"))
        placed(vault)
        for number in (2, 3, 4):
            runner.run(vault.write("svc", [("a", str(number)), (f"new-{number}", "v")], {"n": str(number)}, "/bin/p"))
        return crashed(folder / "origin", folder / "died")
