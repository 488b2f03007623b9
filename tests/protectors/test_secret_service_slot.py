"""The vault's key in a desktop keyring, with a real gnome-keyring on a private bus."""

from __future__ import annotations

import pytest

from daemon.requests import failed, read, results, write
from keychain_auth.errors import VaultError, VaultKeyMissing
from support.person import protect, told
from support.secret_service import Desktop
from support.world import World

SECRET = {"target": "a", "value": "hunter2"}


@pytest.fixture
def with_slot(world: World, desktop: Desktop) -> World:
    """A daemon whose vault only the keyring opens, with one secret."""
    world.env.update(desktop.env)
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    program = world.granted("talker", "aws")
    daemon = world.start()
    world.talker(program).ask(write({"a": "hunter2"}))
    assert world.cli_json("protect", "add", "secret_service")["number"] == 2
    world.cli_json("protect", "remove", "1")
    daemon.stop()
    return world


def test_the_item_gives_its_key_back(desktop: Desktop) -> None:
    from keychain_auth.protectors.secret_service import SecretServiceItem

    protector = SecretServiceItem(desktop.address)
    params, key = protector.create()
    assert desktop.items() == []
    protector.commit()
    assert SecretServiceItem(desktop.address).unwrap_key(params) == key
    [item] = desktop.items()
    assert (item["service"], item["username"]) == ("keychain-auth", f"vault key {params['key_id']}")
    other, _ = protector.create()
    with pytest.raises(VaultKeyMissing, match="does not hold"):
        protector.unwrap_key(other)
    protector.withdraw(params)
    protector.withdraw(params)
    assert desktop.items() == []
    with pytest.raises(VaultKeyMissing, match="does not hold"):
        protector.unwrap_key(params)
    with pytest.raises(RuntimeError, match=r"after create\(\)"):
        SecretServiceItem().commit()


def test_a_closed_keyring_a_hung_one_and_none(desktop: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    from keychain_auth.protectors import secret_service

    protector = secret_service.SecretServiceItem(desktop.address)
    params, _ = protector.create()
    desktop.lock()
    with pytest.raises(VaultError, match="locked"):
        protector.commit()
    desktop.unlock()
    protector.create()
    protector.commit()
    desktop.lock()
    with pytest.raises(VaultKeyMissing, match="is locked"):
        protector.unwrap_key(params)
    with pytest.raises(VaultError, match="stays in the keyring"):
        protector.withdraw(params)
    with desktop.hung():
        monkeypatch.setattr(secret_service, "_SECONDS", 0.3)
        with pytest.raises(VaultKeyMissing, match="cannot be asked"):
            protector.unwrap_key(params)
    desktop.stop_keyring()
    with pytest.raises(VaultKeyMissing, match="cannot be asked"):
        protector.unwrap_key(params)
    with pytest.raises(VaultKeyMissing, match="there is no D-Bus"):
        secret_service.SecretServiceItem("unix:path=/nonexistent").unwrap_key(params)


def test_a_damaged_item_is_no_key(desktop: Desktop) -> None:
    from keychain_auth.protectors.secret_service import SecretServiceItem

    name = "vault key 0123456789abcdef"
    desktop.plain_create("no key", {"service": "keychain-auth", "username": name, "account": name})
    with pytest.raises(VaultKeyMissing, match="does not hold"):
        SecretServiceItem(desktop.address).unwrap_key({"key_id": "0123456789abcdef"})


def test_the_daemon_opens_by_the_keyring(with_slot: World, desktop: Desktop) -> None:
    program = with_slot.path("bin/talker")
    daemon = with_slot.start()
    assert with_slot.talker(program).ask(read("a")) == results(SECRET)
    daemon.stop()

    desktop.lock()  # as before the login
    daemon = with_slot.start()
    daemon.wait_log("the keyring is locked")
    assert with_slot.talker(program).ask(read("a")) == failed("keychain_locked")
    done = with_slot.cli("unlock")
    assert (done.returncode, "the keyring is locked" in done.stderr) == (5, True)
    desktop.unlock()
    assert with_slot.cli_json("unlock")["outcome"] == "unlocked"
    assert with_slot.talker(program).ask(read("a")) == results(SECRET)


def test_removing_the_slot_removes_the_item(with_slot: World, desktop: Desktop) -> None:
    with_slot.start()
    assert with_slot.cli_json("status")["protection"].startswith("secret_service stops whoever has the files")
    assert len(desktop.items()) == 1
    with_slot.cli_json("rekey")
    told(with_slot, "protect", "add", "keyfile", passphrase=None)
    assert with_slot.cli_json("protect", "remove", "2")["kind"] == "secret_service"
    assert desktop.items() == []
    protect(with_slot, key_file=True)
