"""A long answer is made in parts, between which others have their turn; it is all of one moment, and all on record."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from daemon.requests import SUCCESS, read, request, write
from keychain_auth.keychain.vault import Keys
from keychain_auth.keychain.vault.reading import PART
from keychain_auth.model import Item
from keychain_auth.protectors.keyfile import KeyFile
from keychain_auth.wire import codec
from support.world import World
from vault.vault_lab import at_once, open_at

NAMES = [f"name:{number:04}" for number in range(3 * PART)]


def test_parts_make_the_same_line() -> None:
    items = [Item(f"é{number}", "value", {"a": "b"} if number % 2 else None) for number in range(10)]
    for size in (1, 3, 10):
        parts = [codec.encode_items(items[at : at + size]) for at in range(0, len(items), size)]
        assert codec.join_results(parts) == codec.encode_results(items)


@pytest.mark.parametrize(("size", "seen"), [(10, "old"), (5000, "new")])  # in memory, on disk
def test_a_change_between_two_parts_is_seen_whole_or_not_at_all(size: int, seen: str, tmp_path: Path) -> None:
    """The first and the last secret change together, after the first part was read."""
    vault = open_at(tmp_path)

    async def main() -> None:
        await vault.write("svc", [(name, "old".ljust(size)) for name in NAMES], {})
        reading = vault.read_prefix("svc", ["name:"], {})
        reading.send(None)
        await vault.write("svc", [(NAMES[0], "new".ljust(size)), (NAMES[-1], "new".ljust(size))], {})
        items = {item.target: item.value for item in at_once(reading)}
        assert list(items) == NAMES
        assert [items[name].split() for name in (NAMES[0], NAMES[-1])] == [[seen], [seen]]
        await vault.close()

    asyncio.run(main())


def test_a_new_vault_key_between_two_parts_is_no_damage(tmp_path: Path) -> None:
    """What was found before is sealed by the old key, and opens no more."""
    vault = open_at(tmp_path)

    async def main() -> None:
        await vault.write("svc", [(name, f"value of {name}") for name in NAMES], {})
        reading = vault.read_prefix("svc", ["name:"], {})
        reading.send(None)
        await Keys(vault).rekey([KeyFile(str(tmp_path / "vault.key"))])
        assert {item.target: item.value for item in at_once(reading)} == {name: f"value of {name}" for name in NAMES}
        await vault.close()

    asyncio.run(main())


def test_others_have_their_turn_between_the_parts(tmp_path: Path) -> None:
    vault = open_at(tmp_path)

    async def main() -> None:
        await vault.write("svc", [(name, "x") for name in NAMES], {})
        reading = asyncio.ensure_future(vault.read_prefix("svc", ["name:"], {}))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= len(NAMES) / PART
        assert len(reading.result()) == len(NAMES)
        await vault.close()

    asyncio.run(main())


def test_every_name_of_a_long_answer_is_on_record(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin", "talker"))
    names = [f"long:{number:04}" for number in range(2500)]
    for at in range(0, len(names), 500):
        assert talker.ask(write(dict.fromkeys(names[at : at + 500], "x"))) == SUCCESS
    for ask, action in (
        (read("long:", match="prefix"), "read"),
        (request("search", targets=["long:"]), "search"),
        (read(*names[:1000]), "read"),
    ):
        before = len(world.audit())
        answer = talker.ask(ask)
        told = [item["target"] for item in answer["results"]]
        assert told == (names if len(told) > 1000 else names[:1000])
        lines = world.audit()[before:]
        assert {(line["action"], line["result"]) for line in lines} == {(action, "GRANTED")}
        assert max(len(line["targets"]) for line in lines) <= 1000
        assert [target for line in lines for target in line["targets"]] == told
