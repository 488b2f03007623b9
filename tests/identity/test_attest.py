"""The judging of facts: pure, so every rule can be broken one at a time."""

from __future__ import annotations

import msgspec
import pytest

from keychain_auth.identity import attest
from keychain_auth.identity.attest import Refusal
from keychain_auth.identity.facts import (
    Code,
    ExecId,
    FileFacts,
    FileKey,
    HostFacts,
    MappedFile,
    Namespaces,
    PeerFacts,
    ScriptFacts,
    StrictFacts,
)
from keychain_auth.model import Grade, Identity, Program

OURS = Namespaces(user=1, pid=2, mount=3)
HOST = HostFacts(uid=1000, namespaces=OURS, filesystems=attest.LOCAL_FILESYSTEMS, seccomp_filters=1)
KEY = FileKey(device=5, inode=6, size=7, mtime_ns=8, ctime_ns=9)
GOOD = PeerFacts(
    pid=10,
    uid=1000,
    namespaces=OURS,
    executable=FileFacts("/usr/bin/tool", KEY, "ext4"),
    at_path=(5, 6),
    holds_socket=True,
    inheritable=False,
    exec_id=ExecId(11, (12,)),
    seccomp_filters=1,
    tracer=0,
    code=Code(program=True),
    steady=True,
)


def changed(**fields: object) -> PeerFacts:
    return msgspec.structs.replace(GOOD, **fields)


def test_good_facts_pass() -> None:
    assert attest.judge(GOOD, HOST) is None


def test_a_lower_integrity_level_is_refused_and_a_higher_one_is_not() -> None:
    """Windows: what runs in a sandbox is not the program that a person approved outside of one."""
    medium = msgspec.structs.replace(HOST, integrity=8192)
    refusal = attest.judge(changed(integrity=4096), medium)
    assert refusal is not None and refusal.reason == "identity_not_verified" and "4096" in refusal.why
    assert attest.judge(changed(integrity=8192), medium) is None
    assert attest.judge(changed(integrity=12288), medium) is None


@pytest.mark.parametrize(
    ("facts", "reason", "said"),
    [
        (changed(uid=0), "user_not_allowed", "uid 0"),
        (changed(namespaces=Namespaces(9, 2, 3)), "identity_not_verified", "another user namespace"),
        (changed(namespaces=Namespaces(1, 9, 3)), "identity_not_verified", "another pid namespace"),
        (changed(namespaces=Namespaces(9, 2, 9)), "identity_not_verified", "another user and mount namespace"),
        (changed(tracer=77), "identity_not_verified", "process 77 traces it"),
        (changed(code=Code(program=False)), "identity_not_verified", "its own file"),
        (changed(steady=False), "caller_changed", "replaced its program"),
        (changed(executable=FileFacts("/x", KEY, "fuse.evil")), "identity_not_verified", "fuse.evil"),
        (changed(executable=FileFacts("/x", KEY, "tmpfs")), "identity_not_verified", "tmpfs"),
        (changed(executable=FileFacts("/x", KEY, "unknown")), "identity_not_verified", "unknown"),
        (changed(at_path=(5, 7)), "identity_not_verified", "not the one that runs"),
        (changed(at_path=(4, 6)), "identity_not_verified", "not the one that runs"),
        (changed(at_path=None), "identity_not_verified", "not the one that runs"),
        (changed(seccomp_filters=2), "identity_not_verified", "seccomp filter"),
        (changed(holds_socket=False), "socket_not_cloexec", "another process holds"),
        (changed(inheritable=True), "socket_not_cloexec", "SOCK_CLOEXEC"),
    ],
)
def test_each_rule_alone_refuses(facts: PeerFacts, reason: str, said: str) -> None:
    refusal = attest.judge(facts, HOST)
    assert refusal is not None
    assert refusal.reason == reason
    assert said in refusal.why


@pytest.mark.parametrize(
    "later",
    [
        changed(exec_id=ExecId(11, (13,))),
        changed(exec_id=ExecId(12, (12,))),
        changed(executable=FileFacts("/usr/bin/tool", msgspec.structs.replace(KEY, ctime_ns=10), "ext4")),
        changed(executable=FileFacts("/usr/bin/other", KEY, "ext4")),
    ],
)
def test_two_looks_must_show_the_same_process(later: PeerFacts) -> None:
    assert attest.same_process(GOOD, GOOD) is None
    refusal = attest.same_process(GOOD, later)
    assert refusal is not None
    assert refusal.reason == "caller_changed"


def test_a_native_identity() -> None:
    identity = attest.native(GOOD, "a" * 64, HOST, of_root=False)
    assert identity.grade is Grade.USER
    assert not identity.foreign_mounts
    assert (identity.subject.path, identity.subject.sha256) == ("/usr/bin/tool", "a" * 64)


def test_other_mounts_alone_are_for_the_entry_to_allow() -> None:
    facts = changed(namespaces=Namespaces(1, 2, 9))
    assert attest.judge(facts, HOST) is None
    assert attest.native(facts, "a" * 64, HOST, of_root=True).foreign_mounts
    assert attest.judge_place(facts, HOST, own_mounts=False) is not None  # the command line's own socket


def test_a_program_that_only_root_can_replace_loses_that_grade_by_what_it_loads() -> None:
    code = Code(program=True, files=(MappedFile("/home/u/lib.so", (8, 1), 9),), in_memory=True)
    libraries = frozenset((Program("/home/u/lib.so", "b" * 64),))
    assert attest.native(GOOD, "a" * 64, HOST, of_root=True).grade is Grade.SYSTEM
    identity = attest.native(changed(code=code), "a" * 64, HOST, of_root=True, libraries=libraries)
    assert identity.grade is Grade.USER
    assert identity.libraries == libraries
    assert identity.executable_memory


@pytest.mark.parametrize(
    ("facts", "reason", "said"),
    [
        (StrictFacts("/usr/lib/libc.so.6", False, ()), "identity_not_verified", "libc.so.6 was changed in memory"),
        (StrictFacts("", True, ()), "identity_not_verified", "traced"),
        (StrictFacts("", False, (7, 8)), "socket_not_cloexec", "7, 8"),
    ],
)
def test_strict_mode_refuses(facts: StrictFacts, reason: str, said: str) -> None:
    assert attest.judge_strict(StrictFacts("", False, ())) is None
    refusal = attest.judge_strict(facts)
    assert refusal is not None
    assert (refusal.reason, said in refusal.why) == (reason, True)


def test_a_declared_script() -> None:
    script = ScriptFacts("/home/u/app.py", "b" * 64, "ext4")
    identity = attest.declared(GOOD, "a" * 64, script, HOST)
    assert isinstance(identity, Identity)
    assert identity.grade is Grade.DECLARED
    assert identity.subject.path == "/home/u/app.py"
    assert identity.program.path == "/usr/bin/tool"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (ScriptFacts("/mnt/app.py", "b" * 64, "nfs4"), "nfs4"),
        (ScriptFacts("/tmp/x/app.py", "b" * 64, "ext4", writable_by_others="/tmp/x"), "/tmp/x"),
    ],
)
def test_a_script_that_others_can_change_proves_nothing(script: ScriptFacts, said: str) -> None:
    refusal = attest.declared(GOOD, "a" * 64, script, HOST)
    assert isinstance(refusal, Refusal)
    assert said in refusal.why


def test_a_publisher_is_known_by_the_process_or_else_by_its_file() -> None:
    def publisher(facts: PeerFacts, of_file: str) -> str:
        return attest.native(facts, "a" * 64, HOST, of_root=False, publisher=of_file).publisher

    assert publisher(GOOD, "") == ""
    assert publisher(GOOD, "of the file") == "of the file"
    assert publisher(changed(publisher="of the process"), "") == "of the process"


VERIFIED = {(5, 6): Program("/usr/bin/tool", "a" * 64)}
REMOVED = changed(executable=FileFacts("/usr/bin/tool (deleted)", KEY, "ext4"), at_path=None)


def test_a_program_whose_file_was_removed_is_known_by_its_old_path() -> None:
    facts = attest.retired(REMOVED, VERIFIED)
    assert (facts.executable.path, facts.retired) == ("/usr/bin/tool", True)
    assert attest.judge(REMOVED, HOST) is not None
    assert attest.judge(facts, HOST) is None


@pytest.mark.parametrize(
    ("facts", "verified"),
    [
        (GOOD, VERIFIED),  # it stands at its path
        (REMOVED, {}),  # nobody verified it there
        (REMOVED, {(5, 7): VERIFIED[5, 6]}),  # another file was
        (REMOVED, {(5, 6): Program("/usr/bin/other", "a" * 64)}),  # at another path
        (changed(executable=FileFacts("/usr/bin/tool", KEY, "ext4"), at_path=(5, 7)), VERIFIED),  # mounted over
        (  # a file that is really called so, and stands there
            changed(executable=FileFacts("/usr/bin/tool (deleted)", KEY, "ext4"), at_path=(5, 6)),
            VERIFIED,
        ),
    ],
)
def test_nothing_else_gets_an_old_path(facts: PeerFacts, verified: dict[tuple[int, int], Program]) -> None:
    assert attest.retired(facts, verified) is facts
