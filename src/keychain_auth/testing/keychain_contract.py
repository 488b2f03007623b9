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
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from keychain_auth import reasons
from keychain_auth.errors import AnswerExceedsLimit, KeychainError
from keychain_auth.model import Item
from keychain_auth.testing.lab import DIFFICULT, SECRET, SERVICE, VALUES, Lab, assert_silent
from keychain_auth.testing.store import Store


class KeychainContract:
    """Subclass it with a fixture ``store``."""

    patience = 10.0
    operations = 150
    largest = 0

    @pytest.fixture
    def lab(self, store: Store) -> Iterator[Lab]:
        """The storage, opened."""
        with asyncio.Runner() as runner:
            keychain = store.open()
            try:
                yield Lab(store, keychain, runner.run)
            finally:
                runner.run(keychain.close())

    # --- reading and writing ----------------------------------------------------------------------

    def test_an_empty_store_has_nothing(self, lab: Lab) -> None:
        assert (lab.read("a"), lab.prefix("a"), lab.prefix(""), lab.search(), lab.services()) == ([], [], [], [], [])
        lab.delete("a")

    def test_an_exact_read_keeps_the_order_and_leaves_out_what_is_not_there(self, lab: Lab) -> None:
        lab.write({"b": "2", "a": "1", "c": "3"})
        assert lab.read("c", "none", "a", "b") == [Item("c", "3"), Item("a", "1"), Item("b", "2")]

    def test_a_write_replaces_what_was_there(self, lab: Lab) -> None:
        lab.write({"a": "old", "b": "stays"}, environment="old", team="x")
        lab.write({"a": "new"}, environment="new")
        assert lab.read("a", "b") == [
            Item("a", "new", {"environment": "new"}),
            Item("b", "stays", {"environment": "old", "team": "x"}),
        ]
        lab.write({"a": ""})
        assert lab.read("a") == [Item("a", "")]

    @pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value[:8]!a}-{len(value)}")
    def test_a_value_comes_back_as_it_was(self, lab: Lab, value: str) -> None:
        if self.largest and len(value.encode()) > self.largest:
            pytest.skip(f"this storage has room for {self.largest} bytes")
        lab.write({"a": value})
        assert lab.read("a") == [Item("a", value)]
        assert lab.prefix("a") == [Item("a", value)]
        assert lab.search() == [Item("a")]

    def test_what_is_too_large_is_refused_whole(self, lab: Lab) -> None:
        if not self.largest:
            pytest.skip("this storage knows no such limit")
        lab.write({"a": "old"})
        for value, attributes in ((SECRET * self.largest, {}), (SECRET, {"x": "x" * self.largest})):
            with pytest.raises(KeychainError, match=str(self.largest)) as caught:
                lab.write({"a": "new", "b": value}, **attributes)
            assert_silent(caught.value)
            assert caught.value.hint
            assert lab.everything() == {"a": "old"}

    def test_names_that_look_alike_are_not_confused(self, lab: Lab) -> None:
        lab.write({name: f"value of {name}" for name in DIFFICULT})
        for name in DIFFICULT:
            assert lab.read(name) == [Item(name, f"value of {name}")]
        assert [item.target for item in lab.search()] == sorted(DIFFICULT)
        assert lab.everything() == {name: f"value of {name}" for name in DIFFICULT}
        for name in DIFFICULT[::2]:
            lab.delete(name)
        assert [item.target for item in lab.search()] == sorted(DIFFICULT[1::2])

    def test_services_that_look_alike_are_not_confused(self, lab: Lab) -> None:
        names = [name[:256] for name in DIFFICULT]
        for name in names:
            lab.write({"t": f"value in {name}"}, service=name)
        assert lab.services() == sorted(names)
        for name in names:
            assert lab.read("t", service=name) == [Item("t", f"value in {name}")]
            assert lab.search(service=name) == [Item("t")]

    def test_service_and_target_are_never_joined(self, lab: Lab) -> None:
        pairs = [
            ("svc", "prod:pw"), ("svc:prod", "pw"), ("svcprod", ":pw"), ("svc:prod:pw", "x"), ("svc", "prod/pw"),
            ("svc/prod", "pw"), ("svc ", "pw"), ("svc", " pw"),
        ]  # fmt: skip
        for service, target in pairs:
            lab.write({target: f"{service}|{target}"}, service=service)
        for service, target in pairs:
            assert lab.read(target, service=service) == [Item(target, f"{service}|{target}")]
        assert len(lab.everything("svc")) == 3

    @pytest.mark.parametrize("bad", ["\0", "a\0", "\0a", "a\0b", "a\ud800", "\udfff"], ids=ascii)
    def test_names_that_storages_cut_are_refused(self, lab: Lab, bad: str) -> None:
        lab.write({"a": "1"})
        for service, target, attributes in (
            (bad, "t", {}),
            (SERVICE, bad, {}),
            (SERVICE, "t", {bad: "x"}),
            (SERVICE, "t", {"x": bad}),
        ):
            with pytest.raises(KeychainError) as caught:
                lab.run(lab.keychain.write(service, [("good", SECRET), (target, SECRET)], attributes))
            assert_silent(caught.value)
        for ask in (lab.keychain.read, lab.keychain.read_prefix, lab.keychain.search):
            for service, target in ((bad, "a"), (SERVICE, bad)):
                try:
                    assert lab.run(ask(service, (target,), {})) == []
                except KeychainError as error:  # refusing is as good
                    assert_silent(error)
        assert lab.everything() == {"a": "1"}
        assert lab.services() == [SERVICE]

    def test_a_value_that_is_no_unicode_is_refused_without_showing_it(self, lab: Lab) -> None:
        with pytest.raises(KeychainError) as caught:
            lab.write({"good": "v", "t": f"{SECRET}\ud800"})
        assert_silent(caught.value)
        assert lab.everything() == {}

    # --- prefixes ---------------------------------------------------------------------------------

    def test_prefixes_are_sorted_and_each_target_comes_once(self, lab: Lab) -> None:
        lab.write({name: name.upper() for name in ("b", "a:2", "a:1", "a", "c", "ab")})
        assert [item.target for item in lab.prefix("b", "a:", "a")] == ["a", "a:1", "a:2", "ab", "b"]
        assert [item.target for item in lab.search("a:", "a:1")] == ["a:1", "a:2"]
        assert lab.prefix("a:", "nothing") == [Item("a:1", "A:1"), Item("a:2", "A:2")]
        assert lab.prefix("a:1:") == []

    def test_the_empty_prefix_is_the_whole_service_and_no_other(self, lab: Lab) -> None:
        """Whether somebody may ask for it, the protocol and the policy decide."""
        lab.write({"a": "1", "b": "2"})
        lab.write({"c": "3"}, service="other")
        assert lab.everything() == {"a": "1", "b": "2"}
        assert lab.search("") == lab.search() == [Item("a"), Item("b")]
        assert lab.search("", "a") == [Item("a"), Item("b")]

    def test_prefixes_that_end_in_the_last_character(self, lab: Lab) -> None:
        last = "\U0010ffff"  # its UTF-8 begins with 0xF4: a range up to "the next prefix" must not wrap around
        names = [last, last * 2, f"a{last}", f"a{last}b", f"a{last}{last}", "a", "b", "aÿ", "aÿÿ", "aÿz", "b\ud7ff"]
        lab.write(dict.fromkeys(names, "v"))
        for prefix in [last, last * 2, last * 3, f"a{last}", f"a{last}{last}", "aÿ", "aÿÿ", "b\ud7ff", "\ue000"]:
            assert [item.target for item in lab.search(prefix)] == sorted(n for n in names if n.startswith(prefix))
            assert [item.target for item in lab.prefix(prefix)] == sorted(n for n in names if n.startswith(prefix))

    @pytest.mark.parametrize("prefix", ["*", "?", "[a]", "%", "_", ".", "a*", "A", "\u00e9"], ids=ascii)
    def test_a_prefix_is_no_pattern(self, lab: Lab, prefix: str) -> None:
        lab.write(dict.fromkeys(("a", "ab", "b", "*x", "?x", "[a]x", "%x", "_x", ".x", "a*x", "e\u0301x"), "v"))
        found = [item.target for item in lab.search(prefix)]
        assert found == [item.target for item in lab.prefix(prefix)]
        assert all(name.startswith(prefix) for name in found)
        assert len(found) == (0 if prefix in ("A", "\u00e9") else 1)

    def test_an_answer_that_grows_too_large_is_none(self, lab: Lab) -> None:
        bounded: Any = lab.keychain
        bounded.answer_bytes = 1000
        lab.write({"a": "x" * 500, "b": "x" * 498, "c": "x" * 2000})
        assert len(lab.read("a", "b")) == 2
        assert [len(item.value or "") for item in lab.read("c")] == [2000]  # one alone is never too much
        for look in (partial(lab.read, "a", "c"), partial(lab.prefix, "")):
            with pytest.raises(AnswerExceedsLimit):
                look()
        assert len(lab.search()) == 3
        bounded.answer_bytes = 2
        with pytest.raises(AnswerExceedsLimit):
            lab.search()

    # --- attributes -------------------------------------------------------------------------------

    def test_every_attribute_asked_for_must_be_equal(self, lab: Lab) -> None:
        lab.write({"a": "1"}, environment="staging", team="x")
        lab.write({"b": "2"}, environment="staging")
        lab.write({"c": "3"})
        looks: tuple[Callable[..., list[Item]], ...] = (
            partial(lab.read, "a", "b", "c"),
            partial(lab.prefix, ""),
            lab.search,
        )
        for look in looks:
            assert [item.target for item in look()] == ["a", "b", "c"]
            assert [item.target for item in look(environment="staging")] == ["a", "b"]
            assert [item.target for item in look(environment="staging", team="x")] == ["a"]
            assert look(environment="Staging") == look(environment="") == look(team="x", environment="prod") == []
        lab.delete("a", "b", "c", team="x")
        assert [item.target for item in lab.search()] == ["b", "c"]
        assert lab.search()[0] == Item("b", None, {"environment": "staging"})

    def test_attributes_are_text_like_any_other(self, lab: Lab) -> None:
        attributes = {"empty": "", "Name": "1", "name": "2", "naïve *": "é\n%", "a:b": "c"}
        lab.write({"a": SECRET}, **attributes)
        assert lab.read("a") == [Item("a", SECRET, attributes)]
        for name, text in attributes.items():
            assert lab.search(**{name: text}) == [Item("a", None, attributes)]
            assert lab.search(**{name: text + "x"}) == []

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
