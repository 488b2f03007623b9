"""Who may stand behind a helper: the shared vectors, and the names that mean nobody."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from keychain_auth.errors import NotFound, PolicyFormatError
from keychain_auth.model import Denial, Program, Requester
from keychain_auth.policy import behalf, edit
from keychain_auth.policy.explain import explain, in_words, mend
from keychain_auth.policy.parse import parse_policy

VECTORS = os.path.join(os.path.dirname(__file__), "..", "vectors", "behalf.json")
HELPER = "/usr/bin/git-credential-keychain-auth"

with open(VECTORS, encoding="utf-8") as vectors_file:
    CASES: list[dict[str, Any]] = json.load(vectors_file)["vectors"]


def document_of(on_behalf_of: Any) -> edit.Document:
    entry: dict[str, Any] = {"path": HELPER, "hash": "0" * 64}
    if on_behalf_of is not None:
        entry["on_behalf_of"] = on_behalf_of
    return {"protocol_version": "1", "registered_binaries": [entry]}


def entry_of(on_behalf_of: Any) -> Any:
    [entry] = parse_policy(json.dumps(document_of(on_behalf_of)).encode()).by_program.values()
    return entry


def requester_of(document: dict[str, Any] | None) -> Requester | None:
    if document is None:
        return None
    interpreter = Program(document["interpreter"], "c" * 64) if "interpreter" in document else None
    program = Program(document["path"], document["hash"])
    return Requester(program, interpreter, document["of_root"], document.get("problem", ""))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case: dict[str, Any]) -> None:
    judged = behalf.judge(entry_of(case["on_behalf_of"]), requester_of(case["requester"]))
    if case["reason"] is None:
        assert judged is None
        return
    assert isinstance(judged, Denial)
    assert judged.reason == case["reason"]
    assert "on_behalf_of" in explain(judged)
    assert mend(judged).find(f"keychain-auth behalf {HELPER}") >= 0


@pytest.mark.parametrize(
    "wrong", [["git"], [{"path": "/a", "hash": "x"}], [{"path": "/a", "interpreter": "b"}], [7], [{"pth": "/a"}], "/a"]
)
def test_what_is_malformed_names_the_field(wrong: Any) -> None:
    with pytest.raises(PolicyFormatError) as caught:
        entry_of(wrong)
    assert ".on_behalf_of" in caught.value.field


def test_names_that_stand_behind_nothing() -> None:
    assert all(map(behalf.carries, ("/bin/sh", "/usr/bin/bash", "/opt/dash", "/bin/busybox")))
    assert not any(map(behalf.carries, ("/usr/bin/git", "/usr/bin/ssh", "/usr/bin/python3")))
    assert all(map(behalf.adopts, ("/usr/lib/systemd/systemd", "/sbin/init", "/usr/bin/tini", "/usr/bin/dumb-init")))
    assert behalf.problem_of("/usr/bin/node", script=False)
    assert not behalf.problem_of("/usr/bin/node", script=True)
    assert not behalf.problem_of("/usr/bin/git", script=False)
    helpers = ("git-credential-keychain-auth", "docker-credential-keychain-auth", "keychain-auth-run")
    assert all(behalf.is_helper(f"/usr/bin/{name}") for name in helpers)
    assert not any(map(behalf.is_helper, ("/usr/bin/keychain-auth", "/usr/bin/git", "/opt/keychain-auth/app.py")))


def test_edits() -> None:
    document = document_of(None)
    assert in_words(entry_of(None)) == []
    document = edit.stand_behind(document, HELPER, "/usr/bin/git")
    document = edit.stand_behind(document, HELPER, {"path": "/a", "hash": "a" * 64})
    document = edit.stand_behind(document, HELPER, {"path": "/a", "hash": "b" * 64})  # in place of the version before
    entry = parse_policy(json.dumps(document).encode()).by_path[HELPER][0]
    assert in_words(entry) == ["answers only on behalf of: /usr/bin/git, /a"]
    document = edit.step_back(document, HELPER, ["/a"])
    with pytest.raises(NotFound):
        edit.step_back(document, HELPER, ["/a"])
    assert edit.answer_for(document, HELPER, [])["registered_binaries"][0]["on_behalf_of"] == []
    assert "on_behalf_of" not in edit.answer_for(document, HELPER, None)["registered_binaries"][0]
