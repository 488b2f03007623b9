"""Which entry, if any, is the identity's own. Pure.

Contract (protocol, section "Caller identity"): path and SHA-256 must both match one entry, or a trusted signer vouches
for the program (``signers``). For a script the
subject is the script, and the interpreter must match as well. An interpreter without a declared script matches nothing,
whatever config.json says.

Then the entry must be content with how surely the program is known, and with what else was seen of it: its grade, what
it was launched with, the libraries that it loaded, code in anonymous memory, mounts of its own. If it is not, the
program is registered, so it is not queued for approval: the denial's reason is ``identity_not_verified``, and says what
would have to change.
"""

from __future__ import annotations

import msgspec

from keychain_auth.model import Denial, Entry, Identity, Program
from keychain_auth.policy.builds import NOTHING_SEEN, Builds
from keychain_auth.policy.grace import in_force
from keychain_auth.policy.interpreters import is_interpreter
from keychain_auth.policy.parse import Policy
from keychain_auth.policy.signers import grade_of, outdated, reaches, signer_of, vouched
from keychain_auth.reasons import IDENTITY_NOT_VERIFIED, PENDING_APPROVAL


def match(
    policy: Policy,
    identity: Identity,
    builds: Builds = NOTHING_SEEN,
    *,
    now: float | None = None,
    connected: bool = False,
) -> Entry | Denial:
    """The entry of ``identity``, or a Denial that says what did not fit. ``builds`` are the newest that were seen.

    ``now``, in seconds since the epoch, is for versions that were replaced; without it none is accepted.
    ``connected``: the identity's connection was admitted before (by another policy, it may be).
    """
    entry = registered_entry(policy, identity, now=now, connected=connected)
    if not isinstance(entry, Entry):
        return entry
    build = None if identity.signature is None else identity.signature.build
    refusal = outdated(entry, signer_of(policy, identity), build, builds)
    return refusal or _unsure(policy, entry, identity) or _without_withheld(policy, entry, identity)


def registered_entry(
    policy: Policy, identity: Identity, *, now: float | None = None, connected: bool = False
) -> Entry | Denial:
    """The entry that path and content lead to, whatever else it asks for."""
    subject = identity.subject
    if identity.script is None and is_interpreter(subject.path):
        return _denial("interpreter", "an interpreter running a registered script", f"{subject.path} alone")
    entry = policy.by_program.get((subject.path, subject.sha256))
    if entry is None or identity.retired:
        entry = _before(policy, identity, now, connected)
        if entry is None and identity.retired:
            nearest = next(iter(policy.by_path.get(subject.path, ())), None)
            return Denial(
                IDENTITY_NOT_VERIFIED, "previous", "the file that stands at its path", "one that was removed", nearest
            )
    if entry is None and (signer := signer_of(policy, identity)) is not None:
        return vouched(policy, identity, signer)
    if entry is None:
        others = policy.by_path.get(subject.path)
        if others is None:
            field = "path" if identity.script is None else "script"
            return _denial(field, subject.path, "no entry for this path")
        return _denial("hash", subject.sha256, others[0].program.sha256, others[0])
    running = identity.program if identity.script is not None else None
    if entry.interpreter != running:
        return _denial("interpreter", _name(running), _name(entry.interpreter), entry)
    return entry


def _before(policy: Policy, identity: Identity, now: float | None, connected: bool) -> Entry | None:
    """The entry of a version that was replaced and is still accepted (``grace``)."""
    entry = policy.by_previous.get((identity.subject.path, identity.subject.sha256))
    if entry is None or entry.until is None or now is None or not (identity.retired or connected):
        return None
    return entry if in_force(entry.until, now) else None


def _unsure(policy: Policy, entry: Entry, identity: Identity) -> Denial | None:
    """Why the entry is not content with what is known of the process; None if it is."""
    if not reaches(policy, identity, entry.minimum_grade):
        return Denial(IDENTITY_NOT_VERIFIED, "minimum_grade", entry.minimum_grade, grade_of(policy, identity), entry)
    if identity.launch not in (None, entry.launch):
        return Denial(
            IDENTITY_NOT_VERIFIED, "launch", "what the entry says now", "launched before the entry changed", entry
        )
    for library in sorted(identity.libraries - entry.libraries, key=lambda library: library.path):
        return Denial(IDENTITY_NOT_VERIFIED, "libraries", "only code that the entry lists", library.path, entry)
    if identity.executable_memory and not entry.executable_memory:
        return Denial(
            IDENTITY_NOT_VERIFIED, "executable_memory", "only code from files", "code in anonymous memory", entry
        )
    if entry.publisher not in ("", identity.publisher, identity.certificate):
        found = " ".join((identity.publisher, identity.certificate)).strip() or "nobody that this system vouches for"
        return Denial(IDENTITY_NOT_VERIFIED, "publisher", entry.publisher, found, entry)
    if entry.guarded and not identity.guarded:
        return Denial(IDENTITY_NOT_VERIFIED, "guarded", "started with keychain-auth-guarded", "started without", entry)
    if identity.foreign_mounts and not entry.foreign_mounts:
        return Denial(
            IDENTITY_NOT_VERIFIED, "foreign_mounts", "the daemon's mounts", "a mount namespace of its own", entry
        )
    return None


def _without_withheld(policy: Policy, entry: Entry, identity: Identity) -> Entry:
    """The entry less the services that ask for a surer grade than this caller's."""
    named = entry.read_services | entry.write_services | {grant.service for grant in entry.temporary}
    withheld = {
        service: minimum
        for service, minimum in policy.service_grades.items()
        if service in named and not reaches(policy, identity, minimum)
    }
    if not withheld:
        return entry
    return msgspec.structs.replace(
        entry,
        read_services=entry.read_services - withheld.keys(),
        write_services=entry.write_services - withheld.keys(),
        withheld=withheld,
        known_as=grade_of(policy, identity),
    )


def _name(program: Program | None) -> str:
    return "no interpreter" if program is None else f"{program.path} sha256:{program.sha256}"


def _denial(field: str, wanted: str, found: str, entry: Entry | None = None) -> Denial:
    return Denial(PENDING_APPROVAL, field, wanted, found, entry)
