"""A look at everything in a vault: every page, every row, every value, every earlier value.

Contract:
* Nothing is changed, and what is looked at is one moment of the file (one read transaction), whoever writes meanwhile.
* Opening the vault has read the names. Here the values authenticate too, each under the name that it stands for, and
  the history is counted against the state. Writes whose rows are still to be made count as what they will be.
* A finding names the service and the target where they can be known, never a value.

What it does not promise: to notice a vault that was put back to an earlier time as a whole (``format``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from keychain_auth.crypto.aead import NotAuthentic
from keychain_auth.keychain.vault.database import Reader
from keychain_auth.keychain.vault.format import (
    FIRST_WITH_HISTORY,
    FIRST_WITH_JOURNAL,
    FORMAT,
    OWN_SERVICE,
    Codec,
    Damage,
    State,
    context_of,
)
from keychain_auth.keychain.vault.journal import read

_MOST_FINDINGS = 100
_ROWS = {
    "secrets": "SELECT id, name, value, generation FROM secrets ORDER BY rowid",
    "history": "SELECT id, name, value, generation FROM history ORDER BY rowid",
}


class CheckReport(msgspec.Struct, frozen=True):
    """What was looked at, and what was found. No ``findings``: everything is as it was written."""

    secrets: int
    services: int
    earlier_values: int
    findings: list[str]

    @property
    def ok(self) -> bool:
        """True if nothing was found."""
        return not self.findings


def check(path: str, codec: Codec, version: int = FORMAT, *, immutable: bool = False) -> CheckReport:
    """Look at every row of the vault ``path`` of format ``version``; about 10 µs a row, for a thread of its own.

    Raises KeychainError if the file cannot be read at all; what can be named becomes a finding.
    """
    findings: list[str] = []
    with contextlib.closing(Reader(path, immutable=immutable)) as reader:
        reader.ask("BEGIN")  # from the first SELECT to the end: one moment
        problems = [_text(row[0]) for row in reader.ask(f"PRAGMA integrity_check({_MOST_FINDINGS})")]
        if problems != ["ok"]:
            findings += [f"the database reports: {problem}" for problem in problems]
        state = _state(reader, codec, findings)
        services: set[str] = set()
        present = _Table("secrets", codec, codec.member, findings)
        past = _Table("history", codec, codec.past_member, findings)
        for table in (present, past) if version >= FIRST_WITH_HISTORY else (present,):
            for row in reader.each(_ROWS[table.name]):
                table.look_at(row, services if table is present else set())
        new = 0
        if state is not None:
            present.add_up(state.count, state.members)
            past.add_up(state.past_count, state.past_members)
            if version >= FIRST_WITH_JOURNAL:
                new = _journal(reader, codec, state, services, findings)
    if len(findings) > _MOST_FINDINGS:
        findings[_MOST_FINDINGS:] = [f"and {len(findings) - _MOST_FINDINGS} findings more"]
    return CheckReport(present.count - present.own + new, len(services), past.count, findings)


def _journal(reader: Reader, codec: Codec, state: State, services: set[str], findings: list[str]) -> int:
    """Look at every entry of the journal; how many secrets it holds that have no row yet."""
    try:
        entries = read(codec, state, reader.journal())
    except Damage as damage:
        findings.append(str(damage))
        return 0
    new: set[bytes] = set()
    for entry in entries:
        services.add(entry.service)
        for target, row_id, blob in entry.rows:
            try:
                codec.open_value(blob, context_of(row_id, entry.generation))
            except (NotAuthentic, UnicodeDecodeError):
                findings.append(f"the value of {target!r} in service {entry.service!r} does not authenticate")
            if reader.row(row_id) is None:
                new.add(row_id)
    return len(new)


class _Table:
    """One table's rows, added up as they are looked at."""

    def __init__(self, name: str, codec: Codec, member: Callable[[bytes], int], findings: list[str]) -> None:
        self.name = name
        self.count = 0
        self.own = 0  # rows of the vault's own, which are nobody's secrets
        self._codec = codec
        self._member = member
        self._members = 0
        self._findings = findings

    def look_at(self, row: tuple[object, ...], services: set[str]) -> None:
        self.count += 1
        row_id, sealed_name, blob, generation = row
        if not (
            isinstance(row_id, bytes)
            and isinstance(sealed_name, bytes)
            and isinstance(blob, bytes)
            and isinstance(generation, int)
            and generation > 0
        ):
            self._findings.append(f"row {self.count} of {self.name} does not hold what it must")
            return
        context = context_of(row_id, generation)
        self._members ^= self._member(context)
        try:
            name = self._codec.open_name(sealed_name, context)
        except Damage:
            self._findings.append(f"the name of row {self.count} of {self.name} does not authenticate")
            return
        if name.service == OWN_SERVICE:
            self.own += 1
        else:
            services.add(name.service)
        which = "the value" if self.name == "secrets" else "an earlier value"
        what = f"{which} of {name.target!r} in service {name.service!r}"
        if self._codec.row_id(name.service, name.target) != row_id:
            self._findings.append(f"{what} stands in the place of another target")
        try:
            self._codec.open_value(blob, context)
        except (NotAuthentic, UnicodeDecodeError):
            self._findings.append(f"{what} does not authenticate")

    def add_up(self, count: int, members: int) -> None:
        if (self.count, self._members) != (count, members):
            self._findings.append(
                f"{count} rows of {self.name} were committed, {self.count} are there, and they are not the same: rows "
                "were removed, added, or put back to an earlier time"
            )


def _state(reader: Reader, codec: Codec, findings: list[str]) -> State | None:
    found = reader.ask("SELECT value FROM meta WHERE name = 'state'")
    try:
        if len(found) != 1 or not isinstance(found[0][0], bytes):
            raise Damage("its state is missing")
        return codec.open_state(found[0][0])
    except Damage as damage:
        findings.append(str(damage))
        return None


def _text(found: object) -> str:
    return found.decode("utf-8", "backslashreplace") if isinstance(found, bytes) else str(found)
