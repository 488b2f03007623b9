"""A TPM's slot, with real tpm2-tools and a TPM in software."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from daemon.requests import failed, read, results, write
from keychain_auth.errors import UsageError, VaultKeyMissing
from keychain_auth.protectors.tpm2 import Tpm2
from support.person import WORDS, protect, tell, told
from support.tpm import Tpm
from support.world import World

SECRET = {"target": "a", "value": "hunter2"}


def settings(chip: Tpm) -> str:
    return f'[lock]\npassphrase_seconds = 0.001\ntpm = "{chip.tcti}"\n'


@pytest.fixture
def chip(world: World, chips: Callable[[str], Tpm]) -> Tpm:
    """The machine's chip, and daemon settings that name it."""
    made = chips("tpm")
    world.write_settings(settings(made))
    return made


def test_the_chip_gives_back_what_it_sealed(chip: Tpm) -> None:
    params, key = Tpm2(chip.tcti).create()
    assert len(key) == 32
    assert Tpm2(chip.tcti).unwrap_key(params) == key
    assert bytes(key) not in b"".join(base64.b64decode(part) for part in params.values())
    assert set(params) == {"public", "private"}


def test_another_chip_does_not(chip: Tpm, chips: Callable[[str], Tpm]) -> None:
    params, _ = Tpm2(chip.tcti).create()
    with pytest.raises(VaultKeyMissing, match="another machine's TPM"):
        Tpm2(chips("other").tcti).unwrap_key(params)
    chip.clear()
    with pytest.raises(VaultKeyMissing, match="was cleared since"):
        Tpm2(chip.tcti).unwrap_key(params)


def test_altered_parts_are_refused(chip: Tpm) -> None:
    params, _ = Tpm2(chip.tcti).create()
    altered = bytearray(base64.b64decode(params["private"]))
    altered[-1] ^= 1
    with pytest.raises(VaultKeyMissing):
        Tpm2(chip.tcti).unwrap_key({**params, "private": base64.b64encode(altered).decode()})
    for wrong in ({"public": params["public"]}, {**params, "private": "!"}, {**params, "pcrs": "sha256:99; rm"}):
        with pytest.raises(ValueError):
            Tpm2(chip.tcti).unwrap_key(wrong)


def test_no_chip_and_no_answer_are_told(chip: Tpm, monkeypatch: pytest.MonkeyPatch) -> None:
    params, _ = Tpm2(chip.tcti).create()
    chip.stop()
    with pytest.raises(VaultKeyMissing, match="does not open it"):
        Tpm2(chip.tcti).unwrap_key(params)
    monkeypatch.setattr("keychain_auth.protectors.tpm2.DEVICE", "/nonexistent/tpmrm0")
    with pytest.raises(VaultKeyMissing, match="is not there"):
        Tpm2().unwrap_key(params)
    monkeypatch.setattr("keychain_auth.protectors.tpm2._TOOL_PATH", "/nonexistent")
    with pytest.raises(VaultKeyMissing, match="tpm2-tools are not installed"):
        Tpm2(chip.tcti).create()


@pytest.mark.parametrize("pcrs", ["0,7", "sha256:24", "sha256:", "sha256:0,7 -x", "md5:1", "sha256:0\n"])
def test_pcrs_that_cannot_be(pcrs: str) -> None:
    with pytest.raises(UsageError):
        Tpm2(pcrs=pcrs)


# --- with a daemon ----------------------------------------------------------------------------


def test_a_vault_that_only_the_chip_opens(world: World, chip: Tpm) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    world.talker(program).ask(write({"a": "hunter2"}))
    assert world.cli_json("protect", "add", "tpm2")["number"] == 2
    world.cli_json("protect", "remove", "1")
    assert world.cli_json("status")["protection"].startswith("tpm2 stops whoever has the files or the disk")
    daemon.stop()
    world.start()  # nobody is asked
    assert world.talker(program).ask(read("a")) == results(SECRET)
    world.cli("lock")
    chip.stop()
    done = world.cli("unlock")
    assert done.returncode == 5
    assert "the TPM does not open it" in done.stderr
    chip.start()
    assert world.cli("unlock").returncode == 0
    assert world.cli_json("rekey")["outcome"] == "rekeyed"
    assert world.talker(program).ask(read("a")) == results(SECRET)


def test_an_update_changes_the_pcrs_and_reseal_mends_it(world: World, chip: Tpm) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    world.talker(program).ask(write({"a": "hunter2"}))
    assert tell(world, "protect", "add", "recovery", "--pcrs", "sha256:7", passphrase=None).returncode == 2
    world.cli_json("protect", "add", "tpm2", "--pcrs", "sha256:0,7")
    protect(world)  # and the key file goes
    daemon.stop()
    daemon = world.start()
    assert world.talker(program).ask(read("a")) == results(SECRET)
    daemon.stop()

    chip.extend(7)
    daemon = world.start()
    daemon.wait_log("the PCRs sha256:0,7 changed")
    assert world.talker(program).ask(read("a")) == failed("keychain_locked")
    assert told(world, "unlock")["outcome"] == "unlocked"
    assert tell(world, "protect", "reseal", "3").returncode == 2  # the passphrase's
    assert told(world, "protect", "reseal", "2")["pcrs"] == "sha256:0,7"
    daemon.stop()
    world.start()
    assert world.talker(program).ask(read("a")) == results(SECRET)
    assert "admin_protect_reseal" in [line["action"] for line in world.audit()]
    world.assert_nowhere(WORDS, "hunter2")
