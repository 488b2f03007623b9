"""What the audit log says of a change of the policy."""

from __future__ import annotations

import json
from typing import Any

from keychain_auth.policy.difference import MOST, difference_lines, summary
from keychain_auth.policy.parse import EMPTY, Policy, parse_policy


def policy(*entries: dict[str, Any], **more: Any) -> Policy:
    return parse_policy(json.dumps({"registered_binaries": list(entries), **more}).encode())


def entry(path: str = "/bin/tool", letter: str = "a", **fields: Any) -> dict[str, Any]:
    return {"path": path, "hash": letter * 64, **fields}


def test_what_was_added_and_removed() -> None:
    full = policy(entry(allowed_read_services=["b", "a"], allowed_write_services=["c"], can_search=True))
    assert summary(EMPTY, full) == "added /bin/tool: +read a, +read b, +write c, +search, minimum grade user"
    assert summary(full, EMPTY) == "removed /bin/tool: -read a, -read b, -write c, -search, minimum grade user"
    assert summary(full, full) == ""


def test_what_was_changed() -> None:
    before = policy(entry(allowed_read_services=["a"], can_search=True))
    more = {"minimum_grade": "system", "allowed_targets": ["p:"], "strict": True}
    after = policy(entry(letter="b", allowed_read_services=["b"], **more))
    assert summary(before, after) == (
        "changed /bin/tool: +read b, -read a, -search, targets p:, minimum grade user to system, hash, other fields"
    )
    assert (
        summary(policy(), policy(services=[{"service": "aws", "minimum_grade": "user"}])) == "aws asks for grade user"
    )


def test_a_long_difference_is_cut() -> None:
    told = summary(EMPTY, policy(*(entry(f"/bin/tool-{number}") for number in range(50))))
    assert len(told) == MOST
    assert told.endswith("...")


def test_formatting_makes_no_line() -> None:
    assert difference_lines("{}", "{ }\n") == []
    assert '+  "services": []' in difference_lines("{}", '{"services": []}')
