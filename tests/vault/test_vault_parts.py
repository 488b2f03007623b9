"""Long work of the writer's thread: in order, whole, and with pauses in which others go first."""

from __future__ import annotations

from pathlib import Path

import pytest
from vault_lab import opened

from keychain_auth.keychain.vault import changing, parts

Batch = list[tuple[str, str]]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    made: list[None] = []
    monkeypatch.setattr(parts, "_give_way", lambda: made.append(None))
    return made


@pytest.mark.parametrize("count", [0, 1, 32, 33, 64, 100])
def test_parts_are_the_whole_in_order(count: int, pauses: list[None]) -> None:
    things = list(range(count))
    found = list(parts.in_parts(things))
    assert [thing for part in found for thing in part] == things == list(parts.one_by_one(things))
    assert max(map(len, found), default=0) <= 32
    assert len(pauses) == (2 * len(found) if count > 32 else 0)


def test_rows_of_a_batch_are_made_with_pauses_and_those_of_one_value_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[None]
) -> None:
    monkeypatch.setattr(changing, "_QUIET_SECONDS", 3600.0)
    with opened(tmp_path) as (vault, runner):
        for turn in range(2):
            batch: Batch = [(f"t{number}", f"{turn}") for number in range(200)]
            runner.run(vault.write("svc", batch, {}))
        runner.run(vault.write("svc", [("one", "1")], {}))
        assert not pauses
        runner.run(vault.place_all())
        phases = 4  # at least: looked up, compared, sealed, stored
        assert len(pauses) >= phases * 200 // 32
        pauses.clear()
        runner.run(vault.write("svc", [("one", "2")], {}))
        runner.run(vault.place_all())
        assert not pauses
        assert len(runner.run(vault.history("svc", "t7"))) == 2
