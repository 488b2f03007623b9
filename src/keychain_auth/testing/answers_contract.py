"""What a keychain answers, as tests: values, names, prefixes, attributes. A part of ``keychain_contract``.

``keychain_contract`` says how to use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from keychain_auth.errors import AnswerExceedsLimit, KeychainError
from keychain_auth.model import Item
from keychain_auth.testing.lab import DIFFICULT, SECRET, SERVICE, VALUES, Lab, assert_silent, opened
from keychain_auth.testing.store import Store


class AnswersContract:
    """Needs a fixture ``store``."""

    largest = 0

    @pytest.fixture
    def lab(self, store: Store) -> Iterator[Lab]:
        """The storage, opened."""
        with opened(store) as lab:
            yield lab

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
