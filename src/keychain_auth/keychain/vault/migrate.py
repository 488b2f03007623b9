"""From an older format to the present one: one transaction, so the file is wholly of the old format or of the new.

Contract:
* Only a vault that has been looked at in full by the rules of its own format comes here.
* A failure leaves the file in its old format, and the vault closed; the next start tries again.
* Each format has one step to the next. ``tests/vault/samples`` keeps a vault of each.

What it does not promise: a way back. An older program refuses the newer file and leaves it as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from keychain_auth.keychain.vault import format as layout


def _add_history(db: sqlite3.Connection) -> None:
    """1 to 2: a table for earlier values. Names without a program, and states without a past, are still read."""
    for statement in layout.HISTORY_SCHEMA:
        db.execute(statement)


def _add_journal(db: sqlite3.Connection) -> None:
    """2 to 3: a table for writes whose rows are still to be made. States that count none of them are still read."""
    for statement in layout.JOURNAL_SCHEMA:
        db.execute(statement)


STEPS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _add_history, 2: _add_journal}


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring the open transaction of ``db`` from format ``version`` to the present one. Raises sqlite3.Error."""
    for step in range(version, layout.FORMAT):
        STEPS[step](db)
    db.execute(f"PRAGMA user_version = {layout.FORMAT}")  # in the file's first page: part of the transaction
