"""Which entry, if any, is the identity's own. Pure.

Contract (protocol, section "Caller identity"): path and SHA-256 must both match one entry. For a script the
subject is the script, the interpreter must match as well, and the entry must accept the grade at which the script is
known. An interpreter without a declared script matches nothing, whatever config.json says.
"""

from __future__ import annotations

from keychain_auth.model import Denial, Entry, Identity
from keychain_auth.policy.interpreters import is_interpreter
from keychain_auth.policy.parse import Policy

_REASON = "unregistered_binary_pending_approval"


def match(policy: Policy, identity: Identity) -> Entry | Denial:
    """The entry of ``identity``, or a Denial that says what did not fit."""
    subject = identity.subject
    if identity.script is None and is_interpreter(subject.path):
        return _denial("interpreter", "an interpreter running a registered script", f"{subject.path} alone")
    entry = policy.by_program.get((subject.path, subject.sha256))
    if entry is None:
        others = policy.by_path.get(subject.path)
        if others is None:
            field = "path" if identity.script is None else "script"
            return _denial(field, subject.path, "no entry for this path")
        return _denial("hash", subject.sha256, others[0].program.sha256, others[0])
    expected = entry.interpreter
    running = identity.program if identity.script is not None else None
    if expected != running:
        return _denial("interpreter", _name(running), _name(expected), entry)
    if identity.grade not in entry.accepts:
        accepted = ", ".join(sorted(entry.accepts)) or "none"
        return _denial("accepts", identity.grade, accepted, entry)
    return entry


def _name(program: object) -> str:
    if program is None:
        return "no interpreter"
    return f"{getattr(program, 'path', '')} sha256:{getattr(program, 'sha256', '')}"


def _denial(field: str, wanted: str, found: str, entry: Entry | None = None) -> Denial:
    return Denial(_REASON, field, wanted, found, entry)
