"""Grants that end: the shared vectors, what a file may say, and the words that go with them."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import msgspec
import pytest

from keychain_auth import reasons
from keychain_auth.errors import PolicyFormatError
from keychain_auth.model import Denial, Entry, Grade, Program, Request, Requester
from keychain_auth.moments import moment_of, seconds_in, span
from keychain_auth.policy import edit
from keychain_auth.policy.decide import decide
from keychain_auth.policy.explain import explain, mend
from keychain_auth.policy.parse import parse_policy
from keychain_auth.policy.temporary import MOST_SECONDS, again, decide_temporary, describe, left

VECTORS = os.path.join(os.path.dirname(__file__), "..", "vectors", "temporary.json")
PATH = "/opt/agent run"
GRANT = {"id": "a" * 16, "service": "github", "read": True, "uses": 3, "granted_at": "2026-05-21T12:00:00Z"}

with open(VECTORS, encoding="utf-8") as vectors_file:
    CASES: list[dict[str, Any]] = json.load(vectors_file)["vectors"]


def document_of(grants: list[dict[str, Any]], targets: list[str] | None = None) -> edit.Document:
    entry: dict[str, Any] = {"path": PATH, "hash": "0" * 64, "temporary_grants": grants, "can_search": False}
    if targets is not None:
        entry["allowed_targets"] = targets
    return {"protocol_version": "1", "registered_binaries": [entry]}


def entry_of(grants: list[dict[str, Any]], targets: list[str] | None = None) -> Entry:
    return parse_policy(json.dumps(document_of(grants, targets)).encode()).by_path[PATH][0]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case: dict[str, Any]) -> None:
    entry = entry_of(case["temporary_grants"], case["allowed_targets"])
    asked = case["request"]
    request = Request(asked["action"], asked["service"], asked["match"], tuple(asked["targets"]))
    denial = decide(entry, request)
    assert isinstance(denial, Denial)  # nothing is granted for good
    requester = None if case["behind"] is None else Requester(Program(case["behind"], "c" * 64))
    found = decide_temporary(entry, request, denial, now=moment_of(case["now"]), used=case["used"], requester=requester)
    if case["reason"] is None:
        assert not isinstance(found, Denial), explain(found)
        assert found.id == case["grant"]
    else:
        assert isinstance(found, Denial)
        assert found.reason == case["reason"]
        assert mend(found, request.service).startswith("keychain-auth ")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "x"}, "id"),
        ({"service": ""}, "service"),
        ({"read": False}, "temporary_grants[0]"),
        ({"uses": None}, "temporary_grants[0]"),
        ({"uses": 0}, "uses"),
        ({"uses": -1}, "uses"),
        ({"uses": True}, "uses"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"targets": ["a\nb"]}, "targets[0]"),
        ({"use": 3}, "use"),
    ],
)
def test_what_is_malformed_names_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(PolicyFormatError) as caught:
        entry_of([{**GRANT, **change}])
    assert caught.value.field.endswith(field)


def test_a_grant_that_ends_gives_nothing_that_was_withheld_for_another_reason() -> None:
    """A service that asks for a surer grade asks for it from whoever has a grant for a time, too."""
    entry = msgspec.structs.replace(entry_of([GRANT]), withheld={"github": Grade.LAUNCHED}, known_as=Grade.DECLARED)
    request = Request("read", "github", "exact", ("a",))
    denial = decide(entry, request)
    assert isinstance(denial, Denial)
    assert denial.reason == reasons.IDENTITY_NOT_VERIFIED
    assert decide_temporary(entry, request, denial, now=0.0, used={}, requester=None) is denial


@pytest.mark.parametrize(
    ("action", "match"), [("read", "prefix"), ("delete", "prefix"), ("search", "exact"), ("check", "exact")]
)
def test_a_grant_that_ends_is_for_names_alone(action: str, match: str) -> None:
    entry = entry_of([{**GRANT, "write": True}])
    targets = () if action in ("search", "check") else ("a",)
    request = Request(action, "github", match, targets)
    denial = decide(entry, request)
    assert isinstance(denial, Denial)
    assert decide_temporary(entry, request, denial, now=0.0, used={}, requester=None) is denial


def test_two_grants_never_share_a_count() -> None:
    with pytest.raises(PolicyFormatError) as caught:
        entry_of([GRANT, {**GRANT, "service": "aws"}])
    assert "twice" in caught.value.problem
    document = document_of([])
    document["registered_binaries"].append({"path": PATH, "hash": "1" * 64})  # a second version of the program
    parse_policy(json.dumps(edit.grant_for_a_time(document, PATH, GRANT)).encode())


def test_a_new_grant_takes_the_place_of_the_one_before_and_revoke_takes_all() -> None:
    document = edit.grant_for_a_time(document_of([GRANT]), PATH, {**GRANT, "id": "b" * 16})
    document = edit.grant_for_a_time(document, PATH, {**GRANT, "id": "c" * 16, "service": "aws"})
    document = edit.grant_for_a_time(document, PATH, {**GRANT, "id": "d" * 16, "on_behalf_of": "/a"})
    ids = [grant["id"][0] for grant in document["registered_binaries"][0]["temporary_grants"]]
    assert ids == ["b", "c", "d"]
    document, taken = edit.revoke(document, PATH, "github")
    assert taken
    assert [grant["id"][0] for grant in document["registered_binaries"][0]["temporary_grants"]] == ["c"]
    document, taken = edit.revoke(document, PATH, None)
    assert "temporary_grants" not in document["registered_binaries"][0]


def test_words() -> None:
    [grant] = entry_of(
        [{**GRANT, "targets": ["a b"], "expires_at": "2026-05-21T13:30:00Z", "on_behalf_of": "/bin/x"}]
    ).temporary
    assert describe(grant) == "may read github a b on behalf of /bin/x"
    assert again(grant, PATH) == (
        "keychain-auth authorize '/opt/agent run' github --read --target 'a b' --for 1h30m --uses 3 --behind /bin/x"
    )
    at = moment_of("2026-05-21T13:00:00Z")
    assert left(grant, now=at, used=1) == "until 2026-05-21T13:30:00Z (for 30m more), 2 of 3 uses left"
    assert "only a running daemon knows" in left(grant, now=at, used=None)
    assert left(grant, now=at, used=3) == "for 3 uses, all of them used"
    assert left(grant, now=at + 3600, used=0) == "that ended at 2026-05-21T13:30:00Z"


def test_what_gives_it_again_is_that_very_grant_and_not_the_one_of_another_agent() -> None:
    first = {**GRANT, "id": "f" * 16, "on_behalf_of": "/bin/first"}
    entry = entry_of([first, {**GRANT, "id": "e" * 16, "on_behalf_of": "/bin/second"}])
    request = Request("read", "github", "exact", ("token",))
    behind = Requester(Program("/bin/first", "c" * 64))
    denial = Denial("service_not_allowed", "allowed_read_services", "github", "nothing", entry)
    refused = decide_temporary(entry, request, denial, now=0.0, used={"f" * 16: 3, "e" * 16: 1}, requester=behind)
    assert isinstance(refused, Denial) and refused.reason == "grant_ended"
    assert mend(refused, "github").endswith("--behind /bin/first")


def test_lengths_of_time() -> None:
    assert [seconds_in(text, MOST_SECONDS) for text in ("90s", "10m", "8h", "7d", "1h30m")] == [
        90,
        600,
        28800,
        604800,
        5400,
    ]
    assert [span(seconds) for seconds in (0, 59.6, 5400, 604800, 90061)] == ["1s", "1m", "1h 30m", "7d", "1d 1h"]
    for wrong in ("", "10", "m", "-5m", "1.5h", "0s", "400d", "\u0661m", "10 m"):
        with pytest.raises(ValueError, match="^" + re.escape(wrong) + "$"):
            seconds_in(wrong, MOST_SECONDS)
