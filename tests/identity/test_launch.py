"""Is the stopped process the script: each rule alone, and trees as digests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.identity.facts import Code, ExecId, HostFacts, MappedFile, Namespaces
from keychain_auth.identity.launch import FrontFacts, StoppedFacts, Wanted, judge_front, judge_stopped
from keychain_auth.identity.tree import differences, digest

HERE = Namespaces(1, 2, 3)
HOST = HostFacts(1000, HERE, frozenset(("ext4",)), seccomp_filters=1)
FRONT = FrontFacts(HERE, threads=1, tracer=77, seccomp_filters=1, ignores_children=False)
WANTED = Wanted(
    program="/usr/bin/python3", sha256="a" * 64, argv=("/usr/bin/python3", "-I", "/app.py"),
    variables={"KEYCHAIN_AUTH_SCRIPT": "/app.py"}, script=(9, 8), script_fd=3, tracer=77,
)  # fmt: skip
STOPPED = StoppedFacts(
    front=FRONT, path="/usr/bin/python3", sha256="a" * 64, exec_id=ExecId(1, ()),
    command_line=b"/usr/bin/python3\0-I\0/app.py\0argument\0", forbidden=(),
    environment=b"HOME=/home/u\0KEYCHAIN_AUTH_SCRIPT=/app.py\0", code=Code(True),
    files={0: (1, 1), 1: (1, 1), 3: (9, 8)}, sealed=True, strays=(), personality=0, core_bytes=0,
)  # fmt: skip


def test_the_script_that_was_asked_for() -> None:
    assert judge_front(FRONT, HOST, 77) is None
    assert judge_stopped(STOPPED, WANTED, HOST) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"namespaces": Namespaces(1, 2, 4)}, "other namespaces"),
        ({"namespaces": Namespaces(9, 2, 3)}, "other namespaces"),
        ({"threads": 2}, "2 threads"),
        ({"tracer": 0}, "not traced by the daemon"),
        ({"tracer": 5}, "process 5 traces it"),
        ({"seccomp_filters": 2}, "seccomp filter"),
        ({"ignores_children": True}, "SIGCHLD"),
    ],
)
def test_each_rule_of_the_front_alone_refuses(change: dict[str, Any], why: str) -> None:
    front = msgspec.structs.replace(FRONT, **change)
    for refusal in (
        judge_front(front, HOST, 77), judge_stopped(msgspec.structs.replace(STOPPED, front=front), WANTED, HOST)
    ):  # fmt: skip
        assert refusal is not None
        assert refusal.reason == "identity_not_verified"
        assert why in refusal.why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"path": "/usr/bin/python3.11"}, "it runs /usr/bin/python3.11"),
        ({"sha256": "b" * 64}, "sha256:bbb"),
        ({"command_line": b"/usr/bin/python3\0-I\0/app.p"}, "command line"),
        ({"command_line": b"/usr/bin/python3\0/app.py\0"}, "command line"),
        ({"command_line": b"/usr/bin/python3\0-I\0/app.pyc\0"}, "command line"),
        ({"command_line": b"/usr/bin/python3 -I\0/app.py\0"}, "command line"),
        ({"forbidden": ("LD_PRELOAD",)}, "LD_PRELOAD"),
        ({"environment": b"HOME=/home/u\0"}, "KEYCHAIN_AUTH_SCRIPT"),
        ({"environment": b"KEYCHAIN_AUTH_SCRIPT=/app.py\0KEYCHAIN_AUTH_SCRIPT=/evil.py\0"}, "KEYCHAIN_AUTH_SCRIPT"),
        ({"code": Code(False)}, "mapped"),
        ({"code": Code(True, (MappedFile("/evil.so", (1, 1), 1),))}, "mapped"),
        ({"code": Code(True, in_memory=True)}, "mapped"),
        ({"personality": 0x40000}, "0x40000"),
        ({"core_bytes": 1}, "core files"),
        ({"files": {3: (9, 8), 7: (1, 1)}}, "descriptors 7"),
        ({"files": {0: (1, 1)}}, "not the sealed script"),
        ({"files": {3: (9, 9)}}, "not the sealed script"),
        ({"sealed": False}, "not the sealed script"),
        ({"strays": ("0 is a connection to the daemon",)}, "0 is a connection"),
    ],
)
def test_each_rule_of_the_stopped_process_alone_refuses(change: dict[str, Any], why: str) -> None:
    refusal = judge_stopped(msgspec.structs.replace(STOPPED, **change), WANTED, HOST)
    assert refusal is not None
    assert refusal.reason == "identity_not_verified"
    assert why in refusal.why


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
listings = st.dictionaries(names, st.sampled_from(["folder", "link x", "file " + "0" * 64, "file " + "1" * 64]))


@given(listings, listings)
def test_a_digest_is_of_one_listing(one: dict[str, str], other: dict[str, str]) -> None:
    assert digest(one) == digest(dict(reversed(one.items())))
    assert (digest(one) == digest(other)) == (one == other) == (differences(one, other, 9) == ())


def test_names_and_what_they_are_do_not_run_together() -> None:
    assert digest({"a": "bc"}) != digest({"ab": "c"})
    assert digest({"a": "b", "c": "d"}) != digest({"a": "bcd"})


def test_what_differs_is_named() -> None:
    before, after = {"a": "file 1", "b": "file 1", "c": "folder"}, {"a": "file 2", "c": "folder", "d": "link x"}
    assert differences(before, after, 9) == ("a (changed)", "b (gone)", "d (new)")
    assert differences(before, after, 1) == ("a (changed)",)
