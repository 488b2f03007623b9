"""What is answered while a cluster is gone: never what was seen removed, what is due, or what is too old."""

from __future__ import annotations

import json
import os
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.crypto.aead import NotAuthentic
from keychain_auth.errors import AnswerExceedsLimit
from keychain_auth.keychain.base import Recalled
from keychain_auth.keychain.budget import ANSWER_BYTES, Budget
from keychain_auth.keychain.etcd.local_copy import LocalCopy
from keychain_auth.keychain.etcd.sealing import Name, Value
from keychain_auth.model import Denial, Grant, Item
from keychain_auth.policy.decide import decide_stale
from keychain_auth.policy.explain import explain, mend
from policy.test_decide import VECTORS, entry_of, request_of

CLUSTER = 7
EPOCH = 1_700_000_000.0


class Clocks:
    def __init__(self) -> None:
        self.steady, self.wall = 100.0, EPOCH

    def sleep(self, seconds: float) -> None:
        """The machine sleeps: one of the clocks may stand still."""
        self.wall += seconds


class Copy:
    """A copy, and what a cluster answers it."""

    def __init__(self, *, seconds: float = 60.0, most_bytes: int = 1 << 20) -> None:
        self.clocks = Clocks()
        self.copy = LocalCopy(
            bytes(32), seconds=seconds, most_bytes=most_bytes,
            steady=lambda: self.clocks.steady, wall=lambda: self.clocks.wall,
        )  # fmt: skip

    def answered(self, revision: int, found: dict[str, str | None], *, until: float | None = None) -> None:
        values = {target: Value(value, None, until) for target, value in found.items() if value is not None}
        self.copy.learn(self.copy.ticket("s"), CLUSTER, revision, found, values)

    def named(self, revision: int, *targets: str) -> None:
        names = {target: Name(target, None, 1) for target in targets}
        self.copy.learn_names(self.copy.ticket("s"), CLUSTER, revision, names)

    def read(self, *targets: str) -> list[str] | None:
        found = self.copy.read("s", targets, {}, Budget(ANSWER_BYTES))
        return None if found is None else [f"{item.target}={item.value}" for item in found.items]

    def prefix(self, *prefixes: str) -> list[str] | None:
        found = self.copy.read_prefix("s", prefixes, {}, Budget(ANSWER_BYTES))
        return None if found is None else [f"{item.target}={item.value}" for item in found.items]


def test_it_answers_all_or_nothing() -> None:
    it = Copy()
    it.answered(5, {"a": "1", "b": None})
    assert it.read("a") == it.read("a", "b") == it.read("b", "a") == ["a=1"], "that b does not exist, the cluster said"
    assert it.read("a", "c") is None, "of c nobody knows whether it exists"
    assert it.prefix("a") is None, "there may be other names"
    it.named(6, "a", "ab")
    assert it.prefix("a") is None
    it.answered(6, {"ab": "2"})
    assert it.prefix("a") == ["a=1", "ab=2"]
    assert it.prefix("x") == []
    assert it.copy.search("s", (), {}, Budget(ANSWER_BYTES)) == Recalled([Item("a"), Item("ab")], 0)
    assert it.copy.search("other", (), {}, Budget(ANSWER_BYTES)) is None


def test_attributes_are_looked_at_as_the_cluster_does() -> None:
    it = Copy()
    ticket = it.copy.ticket("s")
    it.copy.learn_names(ticket, CLUSTER, 5, {"a": Name("a", {"k": "1"}, 1), "b": Name("b", {"k": "2"}, 1)})
    it.copy.learn(ticket, CLUSTER, 5, ["a"], {"a": Value("v", {"k": "1"})})
    budget = Budget(ANSWER_BYTES)
    assert it.copy.read("s", ["a"], {"k": "1"}, budget) == Recalled([Item("a", "v", {"k": "1"})], 0)
    assert it.copy.read("s", ["a"], {"k": "2"}, budget) == Recalled([], 0)
    assert it.copy.read_prefix("s", [""], {"k": "1"}, budget) == Recalled([Item("a", "v", {"k": "1"})], 0)


def test_what_was_seen_removed_is_not_brought_back_by_an_answer_that_comes_late() -> None:
    """Two threads ask; the first is answered before the other, but comes to tell it later."""
    naive: dict[str, str | None] = {}
    it = Copy()
    first = it.copy.ticket("s")
    naive["a"] = None
    it.answered(9, {"a": None})
    naive["a"] = "withdrawn"
    it.copy.learn(first, CLUSTER, 5, ["a"], {"a": Value("withdrawn", None)})
    assert naive["a"] == "withdrawn"
    assert it.read("a") == []


def test_a_list_of_names_without_it_is_a_removal_too() -> None:
    it = Copy()
    it.answered(5, {"a": "1", "b": "1"})
    it.named(6, "b")
    assert it.read("a") is None
    assert it.read("b") == ["b=1"]


def test_while_a_change_is_under_way_and_after_a_lost_answer_nothing_is_known() -> None:
    it = Copy()
    it.named(5, "a", "b")
    it.answered(5, {"a": "1", "b": "1"})
    before = it.copy.ticket("s")
    it.copy.changing("s", ["a"])
    it.copy.learn(before, CLUSTER, 6, ["a"], {"a": Value("asked before", None)})
    assert it.read("a") is None
    assert it.prefix("") is None
    assert it.read("b") == ["b=1"]


def test_age_is_by_the_clock_that_went_further() -> None:
    it = Copy()
    it.answered(5, {"a": "1"})
    it.clocks.steady += 20
    it.answered(6, {"b": "1"})
    it.clocks.steady += 20
    found = it.copy.read("s", ["a", "b"], {}, Budget(ANSWER_BYTES))
    assert found is not None
    assert found.age == 40, "that of the oldest"
    it.clocks.sleep(61)
    assert it.read("b") is None
    it.answered(7, {"b": "1"})
    it.clocks.wall -= 10_000
    it.clocks.steady += 61
    assert it.read("b") is None, "a clock that is set back makes nothing younger"


def test_what_is_due_is_neither_answered_nor_said_to_be_gone() -> None:
    it = Copy()
    it.answered(5, {"a": "1"}, until=EPOCH + 10)
    assert it.read("a") == ["a=1"]
    it.clocks.wall -= 5_000
    it.clocks.steady += 10
    assert it.read("a") is None, "whatever is done to the clock of the wall"
    it.clocks.wall = EPOCH
    it.answered(6, {"a": "2"}, until=EPOCH - 1)
    assert it.read("a") is None
    names = {"a": Name("a", None, 1, EPOCH + 10), "b": Name("b", None, 1)}
    it.copy.learn_names(it.copy.ticket("s"), CLUSTER, 7, names)
    it.clocks.wall = EPOCH + 10
    assert it.copy.search("s", ["b"], {}, Budget(ANSWER_BYTES)) == Recalled([Item("b")], 10)
    assert it.copy.search("s", [], {}, Budget(ANSWER_BYTES)) is None


def test_what_was_asked_before_everything_was_forgotten_is_not_learned() -> None:
    it = Copy()
    it.named(5, "a")
    it.answered(5, {"a": "1"})
    before = it.copy.ticket("s")
    it.copy.clear()
    it.copy.learn(before, CLUSTER, 6, ["a"], {"a": Value("1", None)})
    it.copy.learn_names(before, CLUSTER, 6, {"a": Name("a", None, 1)})
    assert it.read("a") is None
    assert it.prefix("") is None
    assert it.copy.size() == (0, 0)


def test_revisions_of_another_cluster_say_nothing() -> None:
    it = Copy()
    it.answered(900, {"a": "1"})
    it.copy.learn(it.copy.ticket("s"), CLUSTER + 1, 3, ["b"], {"b": Value("2", None)})
    assert it.read("a") is None
    it.copy.learn(it.copy.ticket("s"), CLUSTER + 1, 4, ["b"], {"b": Value("2", None)})
    assert it.read("b") == ["b=2"]


def test_it_has_a_bound_and_what_was_learned_first_goes_first() -> None:
    it = Copy(most_bytes=10_000)
    for number in range(100):
        it.answered(number + 1, {f"t{number}": "v" * 700})
    values, size = it.copy.size()
    assert 8 <= values <= 14
    assert 8_000 < size <= 10_000
    assert it.read("t99") is not None
    assert it.read("t0") is None
    it.answered(101, {"large": "v" * 20_000})
    assert it.read("large") is None
    for number in range(5_000):
        it.copy.ticket(f"service {number}")
    assert len(it.copy._services) <= 1024
    none = Copy(seconds=0)
    none.answered(5, {"a": "1"})
    assert none.copy.size() == (0, 0)


def test_an_answer_of_it_has_the_bound_of_every_answer() -> None:
    it = Copy()
    it.named(5, "a", "b")
    it.answered(5, {"a": "v" * 600, "b": "v" * 600})
    assert it.copy.read("s", ["a"], {}, Budget(500)) is not None, "one alone is never too much"
    with pytest.raises(AnswerExceedsLimit):
        it.copy.read("s", ["a", "b"], {}, Budget(1000))
    with pytest.raises(AnswerExceedsLimit):
        it.copy.search("s", [], {}, Budget(1))


def test_values_in_it_are_sealed_and_bound_to_their_place() -> None:
    it = Copy()
    it.answered(5, {"a": "a value of mine", "b": "2"})
    kept: Any = it.copy._kept
    assert not any(b"of mine" in (each.blob or b"") for each in kept.values())
    for place, other in ((("s", "b"), kept["s", "a"]), (("s", "a"), kept["s", "a"]._replace(revision=6))):
        was, kept[place] = kept[place], other
        with pytest.raises(NotAuthentic):
            it.read(place[1])
        kept[place] = was
    aead = it.copy._aead
    it.copy.clear()
    assert it.copy._aead is not aead


# --- whatever order answers come in --------------------------------------------------------------------

_EVENTS = st.lists(
    st.tuples(
        st.sampled_from([*["other", "ask", "ask names", "tell"] * 5, "own", "lost", "clear"]),
        st.sampled_from("ab"),
        st.integers(0, 9),
    ),
    min_size=20,
    max_size=60,
)


class Model:
    """A cluster with all its revisions, and a daemon whose questions are told in any order, long after the answer."""

    def __init__(self) -> None:
        self.it, self.history = Copy(), [dict[str, str]()]
        self.asked: list[tuple[Any, int, str]] = []
        self.seen = dict.fromkeys("ab", 1)  # the newest revision in which the daemon saw the target

    def change(self, who: str, target: str, value: str) -> None:
        """``value``: "": it is removed. Of a change that is lost the daemon knows only that there was one."""
        state = {key: held for key, held in self.history[-1].items() if key != target}
        if value:
            state[target] = value
        self.history.append(state)
        if who == "other":
            return
        copy = self.it.copy
        copy.changing("s", [target])
        if who == "own":
            stored = {target: Value(value, None)} if value else {}
            copy.learn(copy.ticket("s"), CLUSTER, len(self.history), stored, stored)
        else:
            copy.changing("s", [target])
        self.seen[target] = len(self.history)

    def ask(self, what: str) -> None:
        """``what``: a target; "": all names."""
        self.asked.append((self.it.copy.ticket("s"), len(self.history), what))

    def tell(self, which: int) -> None:
        if not self.asked:
            return
        ticket, revision, what = self.asked.pop(which % len(self.asked))
        state = self.history[revision - 1]
        if what:
            values = {what: Value(state[what], None)} if what in state else {}
            self.it.copy.learn(ticket, CLUSTER, revision, [what], values)
        else:
            names = {name: Name(name, None, 1) for name in state}
            self.it.copy.learn_names(ticket, CLUSTER, revision, names)
        for name in what or "ab":
            self.seen[name] = max(self.seen[name], revision)

    def check(self) -> None:
        whole, found = self.it.prefix(""), self.it.copy.search("s", [], {}, Budget(ANSWER_BYTES))
        for name in "ab":
            since = self.history[self.seen[name] - 1 :]
            may_be = [[f"{name}={state[name]}"] if name in state else [] for state in since]
            for told in (self.it.read(name), None if whole is None else [each for each in whole if each[0] == name]):
                assert told is None or told in may_be
            assert found is None or (Item(name) in found.items) in [name in state for state in since]


@given(_EVENTS)
def test_no_answer_is_older_than_what_the_daemon_saw(events: list[tuple[str, str, int]]) -> None:
    model = Model()
    for number, (event, target, choice) in enumerate(events):
        if event in ("other", "own", "lost"):
            model.change(event, target, f"v{number}" if choice % 3 else "")
        elif event.startswith("ask"):
            model.ask(target if event == "ask" else "")
        elif event == "tell":
            model.tell(choice)
        else:
            model.it.copy.clear()
        model.check()


# --- who gets it ---------------------------------------------------------------------------------------

with open(VECTORS) as _file:
    STALE: list[dict[str, Any]] = json.load(_file)["while the keychain is gone"]


@pytest.mark.parametrize("case", STALE, ids=[case["name"] for case in STALE])
def test_vector(case: dict[str, Any]) -> None:
    entry = msgspec.structs.replace(entry_of(case["entry"]), allow_stale_reads=case["entry"]["stale_reads"])
    decision = decide_stale(entry, request_of(case["request"]))
    if case["reason"] is None:
        assert isinstance(decision, Grant)
    else:
        assert isinstance(decision, Denial)
        assert decision.reason == case["reason"]
        assert decision.wanted in explain(decision)


def test_a_refusal_names_the_command_that_would_allow_it() -> None:
    [case] = [case for case in STALE if case["name"] == "a read, not allowed"]
    decision = decide_stale(entry_of(case["entry"]), request_of(case["request"]))
    assert isinstance(decision, Denial)
    assert mend(decision) == "keychain-auth register /usr/local/bin/mytool --stale-reads"
    assert os.path.basename(VECTORS) == "decisions.json"
