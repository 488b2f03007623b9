"""Earlier values: kept with time and program, counted, bounded, brought back, forgotten, and sealed like all else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from vault_lab import at_once, contents, open_at, opened, placed, tampering, values

from keychain_auth.errors import NotFound, VaultDamaged
from keychain_auth.keychain.vault import Vault, history, open_vault
from keychain_auth.protectors.keyfile import KeyFile


def put(vault: Vault, runner: Any, value: str, program: str = "", target: str = "t", **attributes: str) -> None:
    runner.run(vault.write("svc", [(target, value)], attributes, program))


def past_values(vault: Vault, target: str = "t") -> list[str]:
    """The earlier values themselves, the newest first: as restoring each of them would show."""
    row_id = vault._codec.row_id("svc", target)
    rows = placed(vault)._reader.past(row_id)
    return [vault._version("svc", target, row_id, 1, row)[1].decode() for row in rows]


def test_the_last_values_stay_with_time_and_program(tmp_path: Path) -> None:
    began = int(time.time())
    with opened(tmp_path) as (vault, runner):
        for number in range(6):
            put(vault, runner, f"v{number}", f"/bin/p{number}", env=str(number))
        versions = runner.run(vault.history("svc", "t"))
        assert [(one.number, one.program, one.attributes) for one in versions] == [
            (number, f"/bin/p{5 - number}", {"env": str(5 - number)}) for number in range(4)
        ]
        assert all(began <= one.modified <= time.time() for one in versions)
        assert past_values(vault) == ["v4", "v3", "v2"]
        assert placed(vault).health()["earlier_values"] == 3
    with opened(tmp_path) as (vault, runner):  # and over a restart
        assert runner.run(vault.history("svc", "t")) == versions
        put(vault, runner, "v6")
        assert past_values(vault) == ["v5", "v4", "v3"]
        assert runner.run(vault.history("svc", "other")) == []


def test_the_same_again_is_no_new_value(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        put(vault, runner, "first")
        for _ in range(5):
            put(vault, runner, "same")
        assert past_values(vault) == ["first"]
        put(vault, runner, "same", env="new")  # other attributes are
        assert past_values(vault) == ["same", "first"]


def test_an_earlier_value_comes_back_and_can_go_again(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        put(vault, runner, "right", env="a")
        put(vault, runner, "wrong", env="b")
        runner.run(vault.restore_value("svc", "t", 1, "/bin/person"))
        assert contents(vault) == {("svc", "t"): ("right", {"env": "a"})}
        assert past_values(vault) == ["wrong", "right"]
        assert runner.run(vault.history("svc", "t"))[0].program == "/bin/person"
        runner.run(vault.restore_value("svc", "t", 1))
        assert contents(vault) == {("svc", "t"): ("wrong", {"env": "b"})}
        for number in (0, 4, -1):
            with pytest.raises(NotFound, match="no earlier value number"):
                runner.run(vault.restore_value("svc", "t", number))
        with pytest.raises(NotFound):
            runner.run(vault.restore_value("svc", "unheard of", 1))


def test_a_deleted_secret_comes_back(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        put(vault, runner, "v" * 9000)  # a long one: it is not in memory
        runner.run(vault.delete("svc", ["t"], {}))
        assert contents(vault) == {}
        assert [one.number for one in runner.run(vault.history("svc", "t"))] == [1]
    with opened(tmp_path) as (vault, runner):
        assert contents(vault) == {}
        runner.run(vault.restore_value("svc", "t", 1))
        assert values(at_once(vault.read("svc", ["t"], {}))) == ["v" * 9000]


def test_forgotten_is_gone(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        for value in ("1", "2", "3"):
            put(vault, runner, value)
            put(vault, runner, value, target="other")
        runner.run(vault.forget("svc", "t"))
        assert [one.number for one in runner.run(vault.history("svc", "t"))] == [0]
        assert past_values(vault, "other") == ["2", "1"]
        assert placed(vault).health()["earlier_values"] == 2
    with opened(tmp_path) as (vault, _):
        assert past_values(vault, "other") == ["2", "1"]


def test_turned_off_keeps_nothing_and_drops_what_was_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        for value in ("1", "2"):
            put(vault, runner, value)
        runner.run(vault.delete("svc", ["t"], {}))
        put(vault, runner, "3")
    vault = open_vault(str(tmp_path), [KeyFile(str(tmp_path / "vault.key"))], history=0)
    with tampering(tmp_path) as db:
        assert db.execute("SELECT count(*) FROM history").fetchone() == (0,)
    at_once(vault.close())
    with opened(tmp_path) as (vault, _):
        assert placed(vault).health()["earlier_values"] == 0
        assert contents(vault) == {("svc", "t"): ("3", None)}


def test_deleted_targets_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "GONE_KEPT", 10)
    with opened(tmp_path) as (vault, runner):
        put(vault, runner, "old", target="kept")
        put(vault, runner, "new", target="kept")
        for number in range(30):
            put(vault, runner, "v", target=f"t{number:02}")
            runner.run(vault.delete("svc", [f"t{number:02}"], {}))
        assert placed(vault).health()["earlier_values"] == 11  # what belongs to a living target does not count
        assert runner.run(vault.history("svc", "t19")) == []
        assert len(runner.run(vault.history("svc", "t20"))) == 1
        put(vault, runner, "again", target="t20")  # it lives again: its past is safe from now on
        for number in range(30, 45):
            put(vault, runner, "v", target=f"t{number:02}")
            runner.run(vault.delete("svc", [f"t{number:02}"], {}))
        assert past_values(vault, "t20") == ["v"]
        assert past_values(vault, "kept") == ["old"]


def test_a_large_deletion_counts_what_it_keeps_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "GONE_KEPT", 10)
    targets = [f"t{number:02}" for number in range(30)]
    with opened(tmp_path) as (vault, runner):
        runner.run(vault.write("svc", [(target, "v") for target in targets], {}))
        statements: list[str] = []
        runner.run(vault._change(lambda: vault._writer._connection().set_trace_callback(statements.append), _nothing))
        runner.run(vault.delete("svc", targets, {}))
        assert vault.health()["earlier_values"] == 10
        assert contents(vault) == {}
        assert len([said for said in statements if "ORDER BY gone" in said]) == 1


def _nothing(_: object) -> None:
    """What the index is to know of a change that is none."""


def test_a_batch_that_fails_leaves_the_history_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        put(vault, runner, "1")
        put(vault, runner, "2")
        before = placed(vault)._writer.state
        with tampering(tmp_path) as db:
            db.execute("UPDATE secrets SET generation = -1 WHERE generation = (SELECT max(generation) FROM secrets)")
            with pytest.raises(VaultDamaged, match="never given"):
                runner.run(vault.write("svc", [("a", "x" * 5000), ("t", "3")], {}))
        assert vault._writer.state == before
        assert past_values(vault) == ["1"]
        assert at_once(vault.read("svc", ["a"], {})) == []


def test_an_altered_or_exchanged_earlier_value_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as (vault, runner):
        for target in ("t", "u"):
            for value in ("1", "2", "3"):
                put(vault, runner, value + target, target=target)
    attacks = {
        "another target's": "UPDATE history SET value = (SELECT value FROM history h WHERE h.id != history.id LIMIT 1)",
        "another time's": "UPDATE history SET generation = generation + 1",
        "flipped": "UPDATE history SET value = substr(value, 1, 20) || x'00'",
    }
    for what, sql in attacks.items():
        with tampering(tmp_path) as db:
            db.execute("BEGIN")
            db.execute(sql)
            db.execute("COMMIT")
        with opened(tmp_path) as (vault, runner):
            with pytest.raises(VaultDamaged, match="does not authenticate"):
                runner.run(vault.history("svc", "t"))
            with pytest.raises(VaultDamaged):
                runner.run(vault.restore_value("svc", "t", 1))
            assert len(contents(vault)) == 2, what


def test_an_earlier_row_put_in_the_place_of_the_present_one_is_noticed(tmp_path: Path) -> None:
    """The history gives an attacker authentic old rows. They are still not the present."""
    with opened(tmp_path) as (vault, runner):
        put(vault, runner, "old password")
        put(vault, runner, "new password")
    with tampering(tmp_path) as db:
        db.execute(
            "UPDATE secrets SET (generation, name, value) ="
            " (SELECT generation, name, value FROM history WHERE history.id = secrets.id)"
        )
    with pytest.raises(VaultDamaged, match="put back to an earlier time"):
        open_at(tmp_path)
