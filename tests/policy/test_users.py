"""What system mode adds to the policy: whose entry it is, whose secrets, and who must be guarded."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from keychain_auth.errors import PolicyFormatError
from keychain_auth.model import Denial, Entry, Grade, Identity, Program
from keychain_auth.policy import edit
from keychain_auth.policy.difference import summary
from keychain_auth.policy.explain import describe_entry, explain, in_words, mend
from keychain_auth.policy.match import match
from keychain_auth.policy.parse import parse_policy
from keychain_auth.policy.users import of_user, stored_name

with open(os.path.join(os.path.dirname(__file__), "..", "vectors", "users.json"), encoding="utf-8") as _file:
    VECTORS: dict[str, list[dict[str, Any]]] = json.load(_file)
PROGRAM = Program("/usr/bin/tool", "a" * 64)


def policy_of(services: tuple[dict[str, Any], ...] = (), **fields: Any) -> Any:
    entry = {"path": PROGRAM.path, "hash": PROGRAM.sha256, "allowed_read_services": ["aws"], **fields}
    return parse_policy(json.dumps({"registered_binaries": [entry], "services": list(services)}).encode())


def entry_of(**fields: Any) -> Entry:
    entry: Entry = policy_of(**fields).by_program[PROGRAM.path, PROGRAM.sha256]
    return entry


@pytest.mark.parametrize("case", VECTORS["entries"], ids=lambda case: case["name"])
def test_entry_vector(case: dict[str, Any]) -> None:
    entry = entry_of(**({} if case["users"] is None else {"users": case["users"]}))
    found = of_user(entry, case["user"]["uid"], case["user"]["name"])
    assert (found.reason if isinstance(found, Denial) else None) == case["reason"]


@pytest.mark.parametrize("case", VECTORS["services"], ids=lambda case: case["name"])
def test_service_vector(case: dict[str, Any]) -> None:
    assert stored_name(case["service"], case["uid"], case["shared"]) == case["stored"]


def test_a_denial_says_who_and_how_to_let_them() -> None:
    denial = of_user(entry_of(users=["ann"]), 1001, "bob")
    assert isinstance(denial, Denial)
    assert "bob (1001)" in explain(denial)
    assert mend(denial).endswith("--user bob")


@pytest.mark.parametrize("users", [[], [""], ["a\n"], "ann", [1000]])
def test_users_that_mean_nothing_are_refused(users: object) -> None:
    with pytest.raises(PolicyFormatError) as refused:
        policy_of(users=users)
    assert "users" in refused.value.field


def test_a_shared_service_cannot_look_like_somebodys_own() -> None:
    assert policy_of(({"service": "aws", "shared": True},)).shared == {"aws"}
    assert policy_of(({"service": "aws", "shared": True, "minimum_grade": "system"},)).service_grades == {
        "aws": Grade.SYSTEM
    }
    with pytest.raises(PolicyFormatError):
        policy_of(({"service": "@1000:aws", "shared": True},))
    with pytest.raises(PolicyFormatError, match="twice"):
        policy_of(({"service": "aws", "shared": True}, {"service": "aws", "minimum_grade": "user"}))


def test_a_guarded_entry_takes_no_other() -> None:
    policy = policy_of(guarded=True)
    plain = Identity(PROGRAM, Grade.SYSTEM, pid=1, uid=1000)
    denial = match(policy, plain)
    assert isinstance(denial, Denial)
    assert denial.reason == "identity_not_verified"
    assert mend(denial) == "keychain-auth-guarded /usr/bin/tool"
    assert isinstance(match(policy, Identity(PROGRAM, Grade.SYSTEM, pid=1, uid=1000, guarded=True)), Entry)


def test_people_are_told_in_words() -> None:
    entry = entry_of(users=["bob", "ann"], guarded=True)
    assert {"must be started with keychain-auth-guarded", "for ann, bob alone (users)"} <= set(in_words(entry))
    described = describe_entry(entry)
    assert described["users"] == ["ann", "bob"]
    assert described["guarded"] is True


def test_sharing_keeps_what_else_is_said_of_a_service() -> None:
    document = edit.require_grade({"registered_binaries": []}, "aws", "system")
    shared = edit.share(document, "aws", shared=True)
    assert shared["services"] == [{"service": "aws", "minimum_grade": "system", "shared": True}]
    assert edit.require_grade(shared, "aws", None)["services"] == [{"service": "aws", "shared": True}]
    assert edit.share(edit.require_grade(shared, "aws", None), "aws", shared=False)["services"] == []
    before, after = (parse_policy(json.dumps(each).encode()) for each in (document, shared))
    assert summary(before, after) == "aws is shared by all users"
    assert summary(after, before) == "aws is of each user"
