"""The version before an upgrade: when it counts, and that its time never grows by itself."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.errors import PolicyFormatError
from keychain_auth.model import Denial, Entry, Grade, Identity, Program
from keychain_auth.moments import moment_of
from keychain_auth.policy import edit
from keychain_auth.policy.grace import MOST_SECONDS, in_force
from keychain_auth.policy.match import match
from keychain_auth.policy.parse import parse_policy

PATH = "/opt/tool/tool"
OLD, NEW, THIRD = "a" * 64, "b" * 64, "c" * 64
NOON, LATER = "2026-05-21T12:00:00Z", "2026-05-21T12:00:30Z"
END = moment_of(NOON) + 60


def document(**fields: Any) -> dict[str, Any]:
    """One entry for the old version, with a minute of grace."""
    demands = {"grace_seconds": 60, **fields}
    return edit.register(edit.empty_document(), Program(PATH, OLD), NOON, demands=demands)[0]


def upgraded(before: dict[str, Any], sha256: str, now: str) -> dict[str, Any]:
    return edit.upgrade(before, Program(PATH, sha256), now=now)[0]


def judged(config: dict[str, Any], sha256: str, now: float, *, connected: bool = False, retired: bool = False) -> bool:
    identity = Identity(Program(PATH, sha256), Grade.USER, pid=1, uid=1, retired=retired)
    policy = parse_policy(json.dumps(config).encode())
    return isinstance(match(policy, identity, now=now, connected=connected), Entry)


def test_until_its_moment_the_old_version_counts_where_it_ran_already() -> None:
    config = upgraded(document(), NEW, NOON)
    for old in ({"connected": True}, {"retired": True}):
        assert judged(config, OLD, END - 0.1, **old)
        assert not judged(config, OLD, END, **old)
    assert judged(config, NEW, END - 0.1)
    assert not judged(config, OLD, END - 0.1)  # started anew: the file stands at its path, and is the old one
    assert not judged(config, THIRD, END - 0.1, connected=True, retired=True)


def test_a_removed_file_is_accepted_only_as_a_version_before() -> None:
    """The same bytes as the present version, but not the file that stands there."""
    assert not judged(document(), OLD, END, retired=True)


def test_without_grace_or_without_a_clock_nothing_is_accepted() -> None:
    config = upgraded(document(grace_seconds=0), NEW, NOON)
    assert "previous" not in config["registered_binaries"][0]
    assert not judged(config, OLD, moment_of(NOON), connected=True)
    policy = parse_policy(json.dumps(upgraded(document(), NEW, NOON)).encode())
    identity = Identity(Program(PATH, OLD), Grade.USER, pid=1, uid=1, retired=True)
    assert isinstance(match(policy, identity, connected=True), Denial)


def test_the_grants_are_those_of_now() -> None:
    config = edit.authorize(upgraded(document(), NEW, NOON), PATH, "aws", read=True, write=False, search=False)
    identity = Identity(Program(PATH, OLD), Grade.USER, pid=1, uid=1)
    entry = match(parse_policy(json.dumps(config).encode()), identity, now=END - 1, connected=True)
    assert isinstance(entry, Entry)
    assert entry.read_services == {"aws"}
    assert entry.until == END
    unregistered = edit.unregister(config, PATH)
    assert not judged(unregistered, OLD, END - 1, connected=True)


def test_a_grade_that_is_asked_for_is_asked_of_the_version_before_too() -> None:
    config = upgraded(document(minimum_grade="system"), NEW, NOON)
    assert not judged(config, OLD, END - 1, connected=True)


@given(st.lists(st.tuples(st.sampled_from([OLD, NEW, THIRD]), st.integers(0, 59)), max_size=12))
def test_grace_never_extends_itself(upgrades: list[tuple[str, int]]) -> None:
    """A version stays accepted for ``grace_seconds`` after the last moment at which it was the present one."""
    config, present, left = document(), OLD, {OLD: 0}
    at = 0
    for sha256, pause in upgrades:
        at += pause
        now = f"2026-05-21T{12 + at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}Z"
        again = upgraded(config, sha256, now)
        if sha256 != present:
            left[present] = at
            left.pop(sha256, None)
        assert upgraded(again, sha256, now) == again  # the same upgrade once more changes nothing
        config, present = again, sha256
        for version in (OLD, NEW, THIRD):
            if version != present:
                served = judged(config, version, moment_of(now) + 1, connected=True)
                assert served == (version in left and left[version] + 60 > at + 1)


def test_a_moment_beyond_what_any_entry_can_ask_for_counts_for_nothing() -> None:
    assert not in_force(moment_of(NOON) + MOST_SECONDS + 1, moment_of(NOON))
    assert in_force(moment_of(NOON) + MOST_SECONDS, moment_of(NOON))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("grace_seconds", -1, "grace_seconds"),
        ("grace_seconds", MOST_SECONDS + 1, "grace_seconds"),
        ("previous", [{"hash": "x", "until": NOON}], "previous[0].hash"),
        ("previous", [{"hash": OLD, "until": "tomorrow"}], "previous[0].until"),
    ],
)
def test_what_is_malformed_is_named(field: str, value: object, named: str) -> None:
    config = copy.deepcopy(document())
    config["registered_binaries"][0][field] = value
    with pytest.raises(PolicyFormatError, match=named.replace("[", r"\[")):
        parse_policy(msgspec.json.encode(config))
