"""What a package manager's word is worth: the reading of its answers, and what becomes of an entry."""

from __future__ import annotations

import msgspec
import pytest

from keychain_auth.model import Entry, Program
from keychain_auth.policy.vouching import Claim, Plan, Seen, dpkg_digest, dpkg_owners, plan, rpm_digest

OLD, NEW, MD5 = "a" * 64, "b" * 64, "c" * 32
TOOL = Program("/usr/bin/tool", OLD)
ENTRY = Entry(TOOL, frozenset(), frozenset(), can_search=False, registered_at="")
PYTHON = Program("/usr/bin/python3", OLD)
VOUCHED = Seen(NEW, MD5, of_root=True, claim=Claim("tool", MD5))


def test_a_vouched_file_is_renewed_and_an_unchanged_one_needs_nobody() -> None:
    assert plan(ENTRY, {TOOL.path: VOUCHED}) == Plan("updated", {TOOL.path: NEW}, ("tool",))
    by_sha256 = msgspec.structs.replace(VOUCHED, claim=Claim("tool", NEW))
    assert plan(ENTRY, {TOOL.path: by_sha256}).outcome == "updated"
    assert plan(ENTRY, {TOOL.path: Seen(OLD, MD5)}) == Plan("unchanged")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"claim": None}, "/usr/bin/tool belongs to no package"),
        ({"claim": Claim("tool", "d" * 32)}, "/usr/bin/tool is not what the package tool installed"),
        ({"of_root": False}, "/usr/bin/tool could be changed by others than root"),
        ({"manager": False}, "there is no package manager here that is known (dpkg, rpm)"),
        ({"problem": "it is gone", "sha256": ""}, "it is gone"),
    ],
)
def test_what_is_doubtful_is_left_with_the_reason(change: dict[str, object], why: str) -> None:
    assert plan(ENTRY, {TOOL.path: msgspec.structs.replace(VOUCHED, **change)}) == Plan("left", why=why)


def test_every_changed_file_of_an_entry_must_be_vouched_for() -> None:
    """A script of the user's, with an interpreter of the system's; and a program with a library of the user's."""
    script = msgspec.structs.replace(ENTRY, interpreter=PYTHON)
    renewed = plan(script, {TOOL.path: Seen(OLD), PYTHON.path: VOUCHED})
    assert renewed == Plan("updated", {PYTHON.path: NEW}, ("tool",))
    own = Seen(NEW, MD5)
    assert plan(script, {TOOL.path: own, PYTHON.path: VOUCHED}).outcome == "left"
    library = Program("/home/u/lib.so", OLD)
    loads = msgspec.structs.replace(ENTRY, libraries=frozenset([library]))
    assert plan(loads, {TOOL.path: VOUCHED, library.path: own}).why == "/home/u/lib.so belongs to no package"


def test_the_answers_of_dpkg() -> None:
    answer = (
        "diversion by dash from: /bin/sh\ndiversion by dash to: /bin/sh.distrib\n"
        "dash, other:amd64: /bin/sh\nelsewhere: /bin/shell\n"
    )
    assert dpkg_owners(answer, "/bin/sh") == ["dash", "other:amd64"]
    assert dpkg_owners(answer, "/bin") == []
    md5sums = f"{'1' * 32}  usr/bin/too\n{MD5}  usr/bin/tool\n{'2' * 32}  usr/bin/tool box\n"
    assert dpkg_digest(md5sums, "/usr/bin/tool") == MD5
    assert dpkg_digest(md5sums, "/usr/bin/tool box") == "2" * 32
    assert dpkg_digest(md5sums, "/bin/tool") is None


def test_the_answers_of_rpm() -> None:
    dump = (
        f"/usr/bin/my tool 1234 1700000000 {NEW} 0100755 root root 0 0 0 X\n"
        f"/usr/bin/tool 99 1700000000 {OLD} 0100755 root root 0 0 0 X\n"
    )
    assert rpm_digest(dump, "/usr/bin/my tool") == NEW
    assert rpm_digest(dump, "/usr/bin/tool") == OLD
    assert rpm_digest(dump, "tool") is None
