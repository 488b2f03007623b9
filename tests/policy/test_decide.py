"""May this entry do this: the shared vectors, and what must hold for every entry and request."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.model import Denial, Entry, Grant, Program, Request
from keychain_auth.policy.decide import decide, search_prefixes
from keychain_auth.policy.explain import explain, mend

VECTORS = os.path.join(os.path.dirname(__file__), "..", "vectors", "decisions.json")

with open(VECTORS) as file:
    CASES: list[dict[str, Any]] = json.load(file)["vectors"]


def entry_of(document: dict[str, Any]) -> Entry:
    targets = document["targets"]
    return Entry(
        program=Program("/usr/local/bin/mytool", "0" * 64),
        read_services=frozenset(document["read"]),
        write_services=frozenset(document["write"]),
        can_search=document["search"],
        registered_at="",
        allowed_targets=None if targets is None else tuple(targets),
    )


def request_of(document: dict[str, Any]) -> Request:
    return Request(
        action=document["action"],
        service=document["service"],
        match=document["match"],
        targets=tuple(document["targets"]),
        values=tuple(document.get("values", ())),
    )


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case: dict[str, Any]) -> None:
    decision = decide(entry_of(case["entry"]), request_of(case["request"]))
    if case["reason"] is None:
        assert isinstance(decision, Grant)
    else:
        assert isinstance(decision, Denial)
        assert decision.reason == case["reason"]
        assert decision.entry is not None
        assert decision.field in explain(decision)
        assert decision.wanted in explain(decision)


def test_a_denial_names_the_command_that_would_allow_it() -> None:
    entry = entry_of({"read": [], "write": [], "search": False, "targets": None})
    denial = decide(entry, Request("read", "aws", "exact", ("a",)))
    assert isinstance(denial, Denial)
    assert mend(denial, "aws") == "keychain-auth authorize /usr/local/bin/mytool aws --read"


@pytest.mark.parametrize(
    ("limit", "asked", "looked_under"),
    [
        (None, [], []),  # the whole service
        (None, ["a"], ["a"]),
        (["a:", "b:"], [], ["a:", "b:"]),
        (["a:"], ["a:x"], ["a:x"]),
    ],
)
def test_a_search_looks_under_what_was_asked_for_or_else_under_the_limit(
    limit: list[str] | None, asked: list[str], looked_under: list[str]
) -> None:
    entry = entry_of({"read": ["aws"], "write": [], "search": True, "targets": limit})
    assert search_prefixes(entry, Request("search", "aws", "exact", tuple(asked))) == tuple(looked_under)


@pytest.mark.parametrize(("granted", "found"), [([], "nothing"), (["b", "a"], "a, b")])
def test_a_denial_says_what_is_granted(granted: list[str], found: str) -> None:
    denial = decide(
        entry_of({"read": granted, "write": [], "search": False, "targets": None}),
        Request("read", "c", "exact", ("x",)),
    )
    assert isinstance(denial, Denial)
    assert (denial.wanted, denial.found) == ("c", found)


words = st.sampled_from(["a", "b", "ab", "a:", "a:b", "", "b:c"])
entries = st.builds(
    lambda read, write, search, targets: entry_of({"read": read, "write": write, "search": search, "targets": targets}),
    st.lists(words),
    st.lists(words),
    st.booleans(),
    st.none() | st.lists(words, max_size=3),
)
requests = st.builds(
    Request,
    action=st.sampled_from(["read", "write", "delete", "search", "check"]),
    service=words,
    match=st.sampled_from(["exact", "prefix"]),
    targets=st.lists(words, max_size=3).map(tuple),
)


@given(entries, requests)
def test_a_grant_never_reaches_beyond_the_entry(entry: Entry, request: Request) -> None:
    """Stated anew from the contract, not from the code: what a grant may touch lies inside what the entry says."""
    if isinstance(decide(entry, request), Denial):
        return
    if request.action in ("read", "search", "check"):
        assert request.service in entry.read_services
    if request.action in ("write", "delete", "check"):
        assert request.service in entry.write_services
    if request.match == "prefix" and request.action != "write":
        assert entry.can_search or request.action == "check"
    if request.action in ("search", "check"):
        assert entry.can_search
    if entry.allowed_targets is not None and request.action != "check":
        looked_under = search_prefixes(entry, request) if request.action == "search" else request.targets
        for target in looked_under:
            assert any(target.startswith(prefix) for prefix in entry.allowed_targets)
        assert looked_under or request.action != "search"


@given(entries, requests)
def test_taking_a_right_away_never_grants(entry: Entry, request: Request) -> None:
    narrower = entry_of({"read": [], "write": sorted(entry.write_services), "search": False, "targets": []})
    if isinstance(decide(entry, request), Denial):
        assert isinstance(decide(narrower, request), Denial)
