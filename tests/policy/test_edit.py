"""Changes to config.json as a document."""

from __future__ import annotations

import copy
import json

import pytest

from keychain_auth.errors import NotFound, UsageError
from keychain_auth.model import Program
from keychain_auth.policy import edit
from keychain_auth.policy.parse import parse_policy

TOOL = Program("/bin/tool", "a" * 64)
NEWER = Program("/bin/tool", "b" * 64)
PYTHON = Program("/usr/bin/python3.11", "c" * 64)
NOW = "2026-05-21T12:00:00Z"


def registered() -> edit.Document:
    document, outcome = edit.register(edit.empty_document(), TOOL, NOW)
    assert outcome == "registered"
    return document


def checked(document: edit.Document) -> edit.Document:
    parse_policy(json.dumps(document).encode())
    return document


def test_a_new_entry_has_no_permission() -> None:
    [entry] = checked(registered())["registered_binaries"]
    assert entry["allowed_read_services"] == entry["allowed_write_services"] == []
    assert entry["can_search"] is False


def test_a_known_path_gets_the_new_hash_and_keeps_its_grants() -> None:
    document = edit.authorize(registered(), TOOL.path, "aws", read=True, write=False, search=True, targets=("p:",))
    changed, outcome = edit.register(document, NEWER, NOW)
    [entry] = checked(changed)["registered_binaries"]
    assert outcome == "updated"
    assert entry["hash"] == f"sha256:{NEWER.sha256}"
    assert (entry["allowed_read_services"], entry["can_search"]) == (["aws"], True)
    assert entry["allowed_targets"] == ["p:"]
    assert edit.register(changed, NEWER, NOW)[1] == "unchanged"
    assert edit.upgrade(document, NEWER, now=NOW)[0] == changed


def test_nothing_is_changed_in_place() -> None:
    document = registered()
    before = copy.deepcopy(document)
    edit.authorize(document, TOOL.path, "aws", read=True, write=True, search=True, targets=("p:",))
    edit.register(document, NEWER, NOW)
    edit.revoke(document, TOOL.path, None)
    edit.unregister(document, TOOL.path)
    assert document == before


def test_authorize_adds_and_never_twice() -> None:
    once = edit.authorize(registered(), TOOL.path, "aws", read=True, write=True, search=False)
    twice = edit.authorize(once, TOOL.path, "aws", read=True, write=True, search=False)
    assert once == twice
    assert checked(twice)["registered_binaries"][0]["allowed_read_services"] == ["aws"]


def test_revoke_takes_one_service_or_all() -> None:
    document = registered()
    for service in ("aws", "gcp"):
        document = edit.authorize(document, TOOL.path, service, read=True, write=True, search=True)
    one, taken = edit.revoke(document, TOOL.path, "aws")
    entry = checked(one)["registered_binaries"][0]
    assert taken
    assert entry["allowed_read_services"] == entry["allowed_write_services"] == ["gcp"]
    everything, _ = edit.revoke(document, TOOL.path, None)
    entry = checked(everything)["registered_binaries"][0]
    assert entry["allowed_read_services"] == entry["allowed_write_services"] == []
    assert entry["can_search"] is False
    assert edit.revoke(document, TOOL.path, "azure")[1] is False


def test_a_script_and_a_program_of_one_path_are_not_mixed_up() -> None:
    with pytest.raises(UsageError):
        edit.register(registered(), NEWER, NOW, interpreter=PYTHON, demands={"minimum_grade": "declared"})
    document, _ = edit.register(
        edit.empty_document(), TOOL, NOW, interpreter=PYTHON, demands={"minimum_grade": "declared"}
    )
    checked(document)
    with pytest.raises(UsageError):
        edit.upgrade(document, NEWER, now=NOW)


def test_two_versions_of_a_path_are_not_renewed_by_guessing() -> None:
    document = registered()
    document["registered_binaries"].append({**document["registered_binaries"][0], "hash": "d" * 64})
    with pytest.raises(UsageError):
        edit.upgrade(document, NEWER, now=NOW)
    assert edit.upgrade(document, TOOL, now=NOW)[1] == "unchanged"


def test_an_unknown_path_is_not_found() -> None:
    document = edit.empty_document()
    with pytest.raises(NotFound):
        edit.upgrade(document, TOOL, now=NOW)
    with pytest.raises(NotFound):
        edit.authorize(document, TOOL.path, "aws", read=True, write=True, search=True)
    with pytest.raises(NotFound):
        edit.revoke(document, TOOL.path, None)
    with pytest.raises(NotFound):
        edit.unregister(document, TOOL.path)


def test_what_people_wrote_beside_stays() -> None:
    document = registered()
    document["trusted_signers"] = [{"service": "s", "public_key": "1XqYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}]
    document["registered_binaries"].append({"path": "/opt/x", "hash": "e" * 64})
    changed = checked(edit.unregister(document, TOOL.path))
    assert changed["trusted_signers"] == document["trusted_signers"]
    assert changed["registered_binaries"] == [{"path": "/opt/x", "hash": "e" * 64}]


def test_libraries_add_up_and_one_of_the_same_path_is_renewed() -> None:
    def listed(*libraries: tuple[str, str]) -> dict[str, object]:
        return {"libraries": [{"path": path, "hash": sha256} for path, sha256 in libraries]}

    document, _ = edit.register(
        edit.empty_document(), TOOL, NOW, demands=listed(("/a.so", "1" * 64), ("/b.so", "2" * 64))
    )
    document, outcome = edit.register(document, TOOL, NOW, demands=listed(("/b.so", "3" * 64)))
    assert outcome == "updated"
    (entry,) = document["registered_binaries"]
    assert entry["libraries"] == listed(("/a.so", "1" * 64), ("/b.so", "3" * 64))["libraries"]
    checked(document)


def test_what_a_service_asks_for_is_set_changed_and_taken_away() -> None:
    document = edit.require_grade(registered(), "prod", "system")
    document = edit.require_grade(document, "prod", "user")
    assert document["services"] == [{"service": "prod", "minimum_grade": "user"}]
    checked(document)
    assert edit.require_grade(document, "prod", None)["services"] == []
