"""A check looks at every row and every value, names what is wrong, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from vault_lab import fill, opened, snapshot, tampering

from keychain_auth.keychain.vault.checking import CheckReport

SWAPPED = "UPDATE {table} SET value = (SELECT value FROM {table} o WHERE o.rowid = {table}.rowid % 5 + 1)"


@pytest.fixture
def vault_folder(tmp_path: Path) -> Path:
    """Five secrets, each with two earlier values, and one deleted."""
    for number in range(3):
        fill(tmp_path, {f"t{target}": f"value {number} of {target}" for target in range(5)})
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.write("gone", [("g", "v" * 9000)], {}))
        runner.run(vault.delete("gone", ["g"], {}))
    return tmp_path


def checked(folder: Path, *statements: str) -> CheckReport:
    """Alter the file of an open vault, check it."""
    with opened(folder) as (vault, runner):
        with tampering(folder) as db:
            for statement in statements:
                db.execute(statement)
        before = snapshot(folder)
        report: CheckReport = runner.run(vault.check())
        assert snapshot(folder) == before
    return report


def test_what_is_in_order_is_counted(vault_folder: Path) -> None:
    assert checked(vault_folder) == CheckReport(secrets=5, services=1, earlier_values=11, findings=[])


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("UPDATE secrets SET value = zeroblob(40) WHERE rowid = 2", "the value of 't1' in service 'svc' does not auth"),
        (SWAPPED.format(table="secrets"), "the value of 't0' in service 'svc' does not auth"),
        (SWAPPED.format(table="history"), "an earlier value of 't0' in service 'svc' does not auth"),
        ("UPDATE secrets SET name = zeroblob(40) WHERE rowid = 3", "the name of row 3 of secrets"),
        ("UPDATE history SET name = zeroblob(40) WHERE rowid = 3", "the name of row 3 of history"),
        ("UPDATE secrets SET generation = NULL WHERE rowid = 1", "row 1 of secrets does not hold"),
        ("UPDATE history SET value = 7 WHERE rowid = 4", "row 4 of history does not hold"),
        ("DELETE FROM secrets WHERE rowid = 1", "5 rows of secrets were committed, 4 are there"),
        ("DELETE FROM history WHERE rowid = 1", "11 rows of history were committed, 10 are there"),
        (
            "INSERT INTO history SELECT id, generation + 1, name, value, gone FROM history LIMIT 1",
            "11 rows of history were committed, 12",
        ),
        ("DELETE FROM meta WHERE name = 'state'", "its state is missing"),
        ("UPDATE meta SET value = zeroblob(80) WHERE name = 'state'", "its state record does not authenticate"),
    ],
)
def test_what_is_not_in_order_is_named(vault_folder: Path, sql: str, words: str) -> None:
    report = checked(vault_folder, sql)
    assert not report.ok
    assert any(words in finding for finding in report.findings), report.findings
    assert "value 2 of" not in str(report)


def test_a_thousand_findings_are_a_hundred_and_a_number(tmp_path: Path) -> None:
    fill(tmp_path, {f"t{number}": "v" for number in range(300)})
    report = checked(tmp_path, "UPDATE secrets SET value = zeroblob(40)")
    assert report.findings[-1] == "and 200 findings more"
    assert len(report.findings) == 101


def test_a_check_beside_changes_sees_one_moment(vault_folder: Path) -> None:
    import asyncio

    async def story(vault: object) -> list[CheckReport]:
        async def change() -> None:
            for number in range(60):
                await vault.write("svc", [(f"t{target}", f"{number}") for target in range(5)], {})  # type: ignore[attr-defined]

        changing = asyncio.create_task(change())
        reports = []
        while not changing.done():
            reports.append(await vault.check())  # type: ignore[attr-defined]
        await changing
        return reports

    with opened(vault_folder) as (vault, runner):
        reports = runner.run(story(vault))
    assert len(reports) > 1
    assert all(report.ok for report in reports), reports
