"""What a signature gives, and above all what it does not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from keychain_auth.crypto.ed25519 import SigningKey
from keychain_auth.errors import PolicyFormatError, UsageError
from keychain_auth.identity.signature import key_text
from keychain_auth.model import Denial, Entry, Grade, Identity, Program, Signature
from keychain_auth.policy import edit
from keychain_auth.policy.explain import explain, mend
from keychain_auth.policy.match import match
from keychain_auth.policy.parse import Policy, parse_policy
from keychain_auth.policy.signers import grade_of

A, B = (SigningKey.generate().public for _ in range(2))
OLD, NEW = "a" * 64, "b" * 64
TOOL = "/opt/tool"
RICH = {"path": TOOL, "hash": OLD, "allowed_read_services": ["bank"], "allowed_write_services": ["bank"]}


def policy_of(*entries: dict[str, Any], signers: tuple[tuple[str, bytes], ...] = (("own", A),), **more: Any) -> Policy:
    trusted = [{"service": service, "public_key": key_text(key)} for service, key in signers]
    return parse_policy(json.dumps({"registered_binaries": entries, "trusted_signers": trusted, **more}).encode())


def signed(key: bytes = A, build: int | None = None, sha256: str = NEW, path: str = TOOL) -> Identity:
    return Identity(Program(path, sha256), Grade.USER, pid=1, uid=1, signature=Signature(key, build))


def granted(policy: Policy, identity: Identity, builds: dict[tuple[str, bytes], int] | None = None) -> Entry:
    entry = match(policy, identity, builds or {})
    assert isinstance(entry, Entry), explain(entry)
    return entry


def refused(policy: Policy, identity: Identity, builds: dict[tuple[str, bytes], int] | None = None) -> Denial:
    denial = match(policy, identity, builds or {})
    assert isinstance(denial, Denial)
    return denial


# --- the signer's own service -------------------------------------------------------------------


def test_a_signed_program_gets_the_signers_service_and_nothing_else() -> None:
    entry = granted(policy_of(), signed())
    assert (entry.read_services, entry.write_services, entry.can_search) == ({"own"}, {"own"}, True)
    assert entry.automatic
    assert entry.program == Program(TOOL, NEW)
    assert entry.allowed_targets is None


def test_without_the_signer_it_is_unknown() -> None:
    for signers in ((), (("own", B),)):
        assert refused(policy_of(signers=signers), signed()).reason == "unregistered_binary_pending_approval"
    unsigned = msgspec.structs.replace(signed(), signature=None)
    assert refused(policy_of(), unsigned).reason == "unregistered_binary_pending_approval"


def test_one_key_for_several_services_and_several_keys_for_one() -> None:
    policy = policy_of(signers=(("one", A), ("two", A), ("two", B)))
    assert granted(policy, signed(A)).read_services == {"one", "two"}
    assert granted(policy, signed(B)).read_services == {"two"}


def test_the_grade_is_signed_as_long_as_the_signer_is_trusted() -> None:
    demanding = {"services": [{"service": "own", "minimum_grade": "signed"}]}
    assert granted(policy_of(**demanding), signed()).read_services == {"own"}
    assert grade_of(policy_of(), signed()) is Grade.SIGNED
    assert grade_of(policy_of(signers=()), signed()) is Grade.USER
    registered = {**RICH, "hash": NEW, "minimum_grade": "signed"}
    assert granted(policy_of(registered), signed())
    assert refused(policy_of(registered, signers=()), signed()).field == "minimum_grade"


def test_a_signature_does_not_make_a_file_one_that_only_root_can_replace() -> None:
    demanding = {"services": [{"service": "own", "minimum_grade": "system"}]}
    of_root = msgspec.structs.replace(signed(), grade=Grade.SYSTEM)
    assert granted(policy_of(**demanding), signed()).withheld == {"own": Grade.SYSTEM}
    assert granted(policy_of(**demanding), of_root).read_services == {"own"}
    registered = policy_of({**RICH, "hash": NEW, "minimum_grade": "system"})
    assert refused(registered, signed()).found == "signed"
    assert granted(registered, of_root)


def test_foreign_code_in_a_signed_program_is_not_signed() -> None:
    loaded = msgspec.structs.replace(signed(), libraries=frozenset({Program("/tmp/evil.so", "")}))
    denial = refused(policy_of(), loaded)
    assert (denial.reason, denial.field, denial.found) == ("identity_not_verified", "libraries", "/tmp/evil.so")
    assert mend(denial) == f"keychain-auth register {TOOL} --signer {key_text(A)} --library /tmp/evil.so"
    assert grade_of(policy_of(), loaded) is Grade.USER


@pytest.mark.parametrize("name", ["bash", "python3.11", "env", "ld-linux-x86-64.so.2"])
def test_a_signed_interpreter_is_an_interpreter(name: str) -> None:
    identity = signed(path=f"/opt/{name}")
    assert refused(policy_of(), identity).field == "interpreter"
    own = {**RICH, "path": f"/opt/{name}", "hash": NEW, "signer": key_text(A)}
    assert refused(policy_of(own), identity).field == "interpreter"


def test_a_script_run_by_a_signed_interpreter_is_not_signed() -> None:
    interpreter = signed(path="/opt/python3.11")
    script = msgspec.structs.replace(interpreter, script=Program("/home/u/app.py", OLD), grade=Grade.DECLARED)
    assert refused(policy_of(), script).field == "script"
    assert grade_of(policy_of(), script) is Grade.DECLARED


# --- over an entry ------------------------------------------------------------------------------


def naive(policy: Policy, identity: Identity) -> Entry:
    """The published rule taken at its word: an entry with the same path keeps its grants and gets the new hash."""
    [entry] = policy.by_path[identity.program.path]
    return entry


def test_over_a_richer_entry_a_signed_program_gets_only_its_own_service() -> None:
    policy = policy_of(RICH)
    assert naive(policy, signed()).read_services == {"bank"}  # whoever may sign for "own" has the bank's secrets
    entry = granted(policy, signed())
    assert (entry.read_services, entry.write_services, entry.automatic) == ({"own"}, {"own"}, True)


def test_over_an_entry_of_the_same_signer_it_keeps_the_grants() -> None:
    policy = policy_of({**RICH, "signer": key_text(A), "allowed_targets": ["x:"]})
    for sha256 in (OLD, NEW):
        entry = granted(policy, signed(sha256=sha256))
        assert (entry.read_services, entry.allowed_targets, entry.automatic) == ({"bank"}, ("x:",), False)
    assert granted(policy, signed(path="/opt/other")).read_services == {"own"}


def test_over_an_entry_of_another_signer_it_does_not() -> None:
    policy = policy_of({**RICH, "signer": key_text(A)}, signers=(("own", A), ("theirs", B)))
    entry = granted(policy, signed(B))
    assert (entry.read_services, entry.automatic) == ({"theirs"}, True)


def test_an_entry_for_exactly_this_hash_is_what_a_person_said() -> None:
    policy = policy_of({**RICH, "hash": NEW})
    assert granted(policy, signed()).read_services == {"bank"}
    assert granted(policy_of({"path": TOOL, "hash": NEW}), signed()).read_services == frozenset()
    both = policy_of({**RICH, "hash": NEW}, {"path": TOOL, "hash": OLD, "signer": key_text(A)})
    assert granted(both, signed()).read_services == {"bank"}


def test_removing_the_signer_leaves_what_a_person_registered() -> None:
    entry = {**RICH, "signer": key_text(A)}
    assert granted(policy_of(entry, signers=()), signed(sha256=OLD)).read_services == {"bank"}
    assert refused(policy_of(entry, signers=()), signed(sha256=NEW)).field == "hash"


def test_a_script_at_the_path_is_nothing_to_a_signed_program() -> None:
    script = {**RICH, "interpreter": {"path": "/usr/bin/python3.11", "hash": "c" * 64}, "minimum_grade": "declared"}
    assert granted(policy_of(script), signed()).read_services == {"own"}


def test_a_signature_brings_no_removed_file_back() -> None:
    """It runs, but its file is gone from its path: only an upgrade with grace lets that go on."""
    gone = msgspec.structs.replace(signed(), retired=True)
    for policy in (policy_of(), policy_of({**RICH, "signer": key_text(A)}), policy_of({**RICH, "hash": NEW})):
        assert refused(policy, gone).field == "previous"


# --- builds -------------------------------------------------------------------------------------

PINNED = {**RICH, "signer": key_text(A), "no_rollback": True}


def test_a_lower_build_than_the_one_seen_is_refused() -> None:
    policy = policy_of(PINNED)
    seen = {(TOOL, A): 7}
    for build in (7, 8, 2**63 - 1):
        assert granted(policy, signed(build=build), seen)
    assert granted(policy, signed(build=0))
    denial = refused(policy, signed(build=6), seen)
    assert (denial.reason, denial.field) == ("identity_not_verified", "no_rollback")
    assert "build 7 or later" in explain(denial)
    assert denial.found == "build 6"
    assert granted(policy_of({**PINNED, "no_rollback": False}), signed(build=6), seen)


def test_the_registered_hash_itself_is_no_way_around() -> None:
    """The file that was registered, put back: its hash fits, its build is old."""
    assert refused(policy_of(PINNED), signed(sha256=OLD, build=6), {(TOOL, A): 7}).field == "no_rollback"


def test_no_build_number_no_signature_no_trust() -> None:
    policy = policy_of(PINNED)
    assert refused(policy, signed(build=None)).found == "a signature without a build number"
    unsigned = msgspec.structs.replace(signed(sha256=OLD), signature=None)
    assert refused(policy, unsigned).field == "no_rollback"
    assert refused(policy_of(PINNED, signers=()), signed(sha256=OLD, build=9)).field == "no_rollback"
    other = policy_of(PINNED, signers=(("own", A), ("own", B)))
    assert refused(other, signed(B, sha256=OLD, build=9)).field == "no_rollback"


def test_numbers_are_those_of_path_and_signer() -> None:
    seen = {("/opt/other", A): 9, (TOOL, B): 9}
    assert granted(policy_of(PINNED), signed(build=1), seen)


def test_grace_for_the_version_before_does_not_bring_an_older_build_back() -> None:
    until = {"previous": [{"hash": OLD, "until": "2030-01-01T00:00:00Z"}], "grace_seconds": 60}
    old = signed(sha256=OLD, build=6)
    for no_rollback in (False, True):
        policy = policy_of({**PINNED, **until, "hash": NEW, "no_rollback": no_rollback})
        found = match(policy, old, {(TOOL, A): 7}, now=0.0, connected=True)
        assert isinstance(found, Denial) == no_rollback


# --- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"signer": "AAAA"}, "signer"),
        ({"no_rollback": True}, "no_rollback"),
        ({"signer": key_text(A), "interpreter": {"path": "/usr/bin/python3", "hash": OLD}}, "signer"),
    ],
)
def test_what_cannot_be_meant_is_refused(entry: dict[str, Any], field: str) -> None:
    with pytest.raises(PolicyFormatError) as caught:
        policy_of({**RICH, **entry})
    assert caught.value.field == f"$.registered_binaries[0].{field}"


def test_two_entries_of_one_signer_at_one_path_are_refused() -> None:
    first, second = {**RICH, "signer": key_text(A)}, {"path": TOOL, "hash": NEW, "signer": key_text(A)}
    with pytest.raises(PolicyFormatError) as caught:
        policy_of(first, second)
    assert caught.value.field == "$.registered_binaries[1].signer"
    policy_of(first, {**second, "signer": key_text(B)}, {**second, "path": "/opt/x"})


def test_edits_ask_for_the_signer() -> None:
    document, _ = edit.register(edit.empty_document(), Program(TOOL, OLD), "now")
    for change in (
        lambda: edit.register(document, Program(TOOL, OLD), "now", demands={"no_rollback": True}),
        lambda: edit.authorize(
            document, TOOL, "s", read=True, write=False, search=False, demands={"no_rollback": True}
        ),
    ):
        with pytest.raises(UsageError) as caught:
            change()
        assert caught.value.hint == f"keychain-auth register {TOOL} --signer KEY --no-rollback"
    pinned, outcome = edit.register(
        document, Program(TOOL, OLD), "now", demands={"signer": key_text(A), "no_rollback": True}
    )
    assert outcome == "updated"
    assert parse_policy(json.dumps(pinned).encode()).by_path[TOOL][0].no_rollback
    loose = edit.authorize(pinned, TOOL, "s", read=True, write=False, search=False, demands={"no_rollback": False})
    assert not parse_policy(json.dumps(loose).encode()).by_path[TOOL][0].no_rollback
