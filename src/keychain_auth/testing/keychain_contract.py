"""The contract of ``keychain.base`` as tests: every keychain passes all of them.

A backend's test module has a fixture ``store`` and a subclass; pytest finds the tests through it::

    from keychain_auth.testing import KeychainContract, Store

    class MyStore(Store): …

    class TestMyKeychain(KeychainContract):
        @pytest.fixture
        def store(self, tmp_path): return MyStore(tmp_path)

``patience`` is how long, in seconds, an answer about a storage that is gone may take; ``operations`` how many the
comparison with a dict makes. ``largest``: how many bytes one item of this storage has room for, names, attributes and
value together; 0 if there is no such limit. What is larger must be refused whole, and without showing it.

What it does not prove: durability over a power cut, and that two processes get along. That is different for each
storage, and belongs to its own tests.
"""

from __future__ import annotations

import asyncio
import json
import random

from keychain_auth import reasons
from keychain_auth.model import Item
from keychain_auth.testing.answers_contract import AnswersContract
from keychain_auth.testing.lab import SECRET, SERVICE, Lab, assert_silent


class KeychainContract(AnswersContract):
    """Subclass it with a fixture ``store``."""

    patience = 10.0
    operations = 150

    # --- all or nothing ---------------------------------------------------------------------------

    def test_writers_at_the_same_time_leave_whole_batches(self, lab: Lab) -> None:
        names = ("a", "b", "c")

        async def together() -> None:
            batches = [[(name, f"by {writer}") for name in names[:: 1 - 2 * (writer % 2)]] for writer in range(8)]
            await asyncio.gather(*(lab.keychain.write(SERVICE, batch, {}) for batch in batches))

        lab.run(together())
        stored = lab.everything()
        assert set(stored) == set(names)
        assert len(set(stored.values())) == 1

    def test_writers_and_readers_at_the_same_time(self, lab: Lab) -> None:
        async def together() -> list[list[Item]]:
            writes = [lab.keychain.write(SERVICE, [(f"t{n}", f"v{n}")], {}) for n in range(10)]
            reads = [lab.keychain.read(SERVICE, [f"t{n}"], {}) for n in range(10)]
            done = await asyncio.gather(*(each for pair in zip(writes, reads, strict=True) for each in pair))
            return [found for found in done if found is not None]

        for number, found in enumerate(lab.run(together())):
            assert found in ([], [Item(f"t{number}", f"v{number}")])
        assert lab.everything() == {f"t{n}": f"v{n}" for n in range(10)}

    def test_a_change_whose_caller_left_is_made_whole_or_not_at_all(self, lab: Lab) -> None:
        async def leave() -> None:
            task = asyncio.ensure_future(lab.keychain.write(SERVICE, [("a", "1"), ("b", "1")], {}))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await lab.keychain.write(SERVICE, [("c", "2")], {})  # what was under way is over by then

        lab.run(leave())
        assert set(lab.everything()) in ({"a", "b", "c"}, {"c"})

    def test_services_are_those_that_hold_something(self, lab: Lab) -> None:
        for service in ("b", "a", "c"):
            lab.write({"t": "v"}, service=service)
        lab.delete("t", service="a")
        assert lab.services() == ["b", "c"]

    def test_any_order_of_operations_gives_what_a_dict_gives(self, lab: Lab) -> None:
        """Few names that begin with each other, so that they meet; the same order each time."""
        names = ["a", "a:", "a:b", "A", "é", "\U0010ffff", "a\U0010ffff", "b"]
        services = ["svc", "svc:a", "пароли"]
        model: dict[tuple[str, str], Item] = {}
        chance = random.Random(7)
        for number in range(self.operations):
            service = chance.choice(services)
            some = chance.sample(names, chance.randint(1, 3))
            asked = chance.choice([{}, {}, {"team": "x"}, {"team": "x", "environment": ""}])
            here = {target: item for (where, target), item in model.items() if where == service}
            fitting = {t: item for t, item in here.items() if asked.items() <= (item.attributes or {}).items()}
            if number % 3 == 0:
                lab.write({target: f"{number} {target}" for target in some}, service, **asked)
                model.update({(service, t): Item(t, f"{number} {t}", asked or None) for t in some})
            elif number % 7 == 1:
                lab.delete(*some, service=service, **asked)
                for target in set(some) & set(fitting):
                    del model[service, target]
            else:
                assert lab.read(*some, service=service, **asked) == [fitting[t] for t in some if t in fitting]
                under = [fitting[t] for t in sorted(fitting) if t.startswith(tuple(some))]
                assert lab.prefix(*some, service=service, **asked) == under
                assert lab.search(*some, service=service, **asked) == [
                    Item(i.target, None, i.attributes) for i in under
                ]
        assert lab.services() == sorted({service for service, _ in model})

    # --- opening, locking, losing -----------------------------------------------------------------

    def test_what_was_written_is_there_when_it_is_opened_again(self, lab: Lab) -> None:
        lab.write({"a": "1", "b": ""}, environment="x")
        lab.delete("b")
        lab.run(lab.keychain.close())
        again = lab.store.open()
        try:
            assert lab.run(again.read_prefix(SERVICE, [""], {})) == [Item("a", "1", {"environment": "x"})]
        finally:
            lab.run(again.close())

    def test_a_closed_keychain_fails_and_looks_not_empty(self, lab: Lab) -> None:
        lab.write({"a": SECRET})
        lab.run(lab.keychain.close())
        lab.run(lab.keychain.close())
        for error, _ in lab.failures():
            assert error is not None

    def test_health_is_for_machines_and_shows_no_name(self, lab: Lab) -> None:
        lab.write({"target of mine": SECRET}, service="service of mine")
        lab.run(lab.keychain.probe())
        told = json.dumps(lab.keychain.health())
        assert "backend" in lab.keychain.health()
        assert SECRET not in told
        assert "of mine" not in told

    def test_a_locked_store_says_so_within_a_second(self, lab: Lab) -> None:
        lab.write({"a": SECRET})
        lab.attempt(lab.store.lock)
        for error, seconds in lab.failures():
            assert error is not None
            assert error.reason == reasons.KEYCHAIN_LOCKED
            assert error.hint
            assert_silent(error)
            assert seconds < 1.0
        lab.run(lab.store.unlock())
        assert lab.everything() == {"a": SECRET}
        lab.write({"a": "2"})
        assert lab.read("a") == [Item("a", "2")]

    def test_a_store_that_is_gone_says_so_and_is_picked_up_again(self, lab: Lab) -> None:
        lab.write({"a": SECRET})
        lab.attempt(lab.store.take_away)
        for error, seconds in lab.failures():
            assert error is not None
            assert error.reason == reasons.INTERNAL_ERROR
            assert_silent(error)
            assert seconds < self.patience
        lab.run(lab.store.bring_back())
        assert lab.once_back(self.patience) == {"a": SECRET}
        lab.write({"a": "2"})
        assert lab.read("a") == [Item("a", "2")]


__all__ = ["KeychainContract"]
