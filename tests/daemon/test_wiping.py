"""What a lock leaves in the daemon's memory, looked at as root does: with /proc/PID/mem."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from daemon.requests import read, write
from keychain_auth.crypto.kdf import subkey
from keychain_auth.keychain.vault import open_vault
from keychain_auth.protectors.passphrase import Passphrase
from support.person import WORDS, protect, told
from support.world import World


def keys_of(world: World, folder: Path) -> dict[str, bytes]:
    """The vault key, the key of its slot, and those derived from it, by opening a copy of the vault."""
    folder.mkdir()
    for name in os.listdir(world.data_dir):
        if name.startswith("vault.db") and not name.endswith(("-shm", ".lock")):
            shutil.copy(os.path.join(world.data_dir, name), folder / name)
            os.chmod(folder / name, 0o600)
    for path in folder.iterdir():
        os.chown(path, os.geteuid(), os.getegid())
    vault = open_vault(str(folder), [Passphrase(WORDS)], makers=[])
    key, vault_id = bytes(vault._key), vault._vault_id
    [slot] = vault.slots
    kek = bytes(Passphrase(WORDS).unwrap_key(slot.parameters()))
    asyncio.run(vault.close())
    purposes = ("index", "members", "name", "state", "value")
    return {"vault": key, "kek": kek, **{name: subkey(key, vault_id, f"vault 1 {name}") for name in purposes}}


def found_in(pid: int, keys: dict[str, bytes]) -> dict[str, int]:
    """How often each key stands in the memory of a process."""
    found = dict.fromkeys(keys, 0)
    with open(f"/proc/{pid}/maps", encoding="ascii") as lines, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in lines:
            span, modes, *_ = line.split()
            if not modes.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                content = memory.read(end - start)
            except (OSError, OverflowError):
                continue
            for name, key in keys.items():
                found[name] += content.count(key)
    return found


def test_a_lock_wipes_the_keys(world: World, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can read the memory of a process that forbids dumps")
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    talker.ask(write({"a": "hunter2"}))
    protect(world)
    daemon.stop()
    keys = keys_of(world, tmp_path / "copy")

    daemon = world.start()
    assert not any(found_in(daemon.pid, keys).values())
    told(world, "unlock")
    talker = world.talker(program)
    talker.ask(read("a"))
    talker.ask(write({"b": "hunter3"}))
    told(world, "get", "aws", "a")
    before = found_in(daemon.pid, keys)
    assert before["vault"] >= 1  # so the look finds what is there
    assert before["index"] >= 1
    world.cli("lock")
    assert found_in(daemon.pid, keys) == dict.fromkeys(keys, 0)
