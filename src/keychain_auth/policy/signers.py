"""What the signature of a trusted signer gives a program. Pure.

Contract (protocol, section "Signed programs"):

* A program that a trusted signer signed may read, write and search that signer's own services, and nothing else. That
  is calculated anew from the policy of the moment and never written down: with the signer it is gone.
* An entry whose field ``signer`` names the key stands for every program at its path that this key signed, whatever its
  hash. A person wrote that field. Without it an entry stands for the one hash that it has: a signed program that takes
  the place of another gets nothing of what that one was granted.
* An entry for exactly this hash goes before all that: it is what a person said about this program.
* An entry with ``no_rollback`` stands only for programs that its signer signed with a build number, and not for a lower
  one than was seen before.

What this does not promise: that an older program of the signer gets nothing. At another path, or where no entry says
``no_rollback``, it gets the signer's own services as the newest does.
"""

from __future__ import annotations

from keychain_auth import reasons
from keychain_auth.identity.signature import key_text
from keychain_auth.model import Denial, Entry, Grade, Identity
from keychain_auth.policy.builds import Builds
from keychain_auth.policy.parse import Policy


def signer_of(policy: Policy, identity: Identity) -> bytes | None:
    """The trusted key that signed the program; None for scripts, which nobody can sign.

    The identity's signature was verified when it connected. Whether its key is trusted is a question of now.
    """
    signature = identity.signature
    if signature is None or identity.script is not None or signature.key not in policy.signers:
        return None
    return signature.key


def grade_of(policy: Policy, identity: Identity) -> Grade:
    """How surely the program is known, by the signers of the moment. What it has loaded beside is not signed."""
    return identity.grade if identity.libraries or signer_of(policy, identity) is None else Grade.SIGNED


def reaches(policy: Policy, identity: Identity, minimum: Grade) -> bool:
    """Is the program known surely enough?

    A demand for ``system`` is about who can replace the file: a signature cannot stand in for that, though it is the
    surer grade for every other demand.
    """
    grade = identity.grade if minimum is Grade.SYSTEM else grade_of(policy, identity)
    return grade.reaches(minimum)


def vouched(policy: Policy, identity: Identity, signer: bytes) -> Entry:
    """The entry of a signed program that no entry names by its hash."""
    for entry in policy.by_path.get(identity.program.path, ()):
        if entry.signer == signer:
            return entry
    services = policy.signers[signer]
    return Entry(identity.program, services, services, can_search=True, registered_at="", signer=signer, automatic=True)


def outdated(entry: Entry, signer: bytes | None, build: int | None, builds: Builds) -> Denial | None:
    """Why the entry refuses this build; None if it does not. ``build`` is that of the program's signature, if any."""
    if not entry.no_rollback or entry.signer is None:
        return None
    newest = builds.get((entry.program.path, entry.signer), 0)
    wanted = f"build {newest} or later, signed by {key_text(entry.signer)}"
    if signer != entry.signer:
        return _refused(entry, wanted, "no signature of that signer, or one that is not trusted")
    if build is None:
        return _refused(entry, wanted, "a signature without a build number")
    if build < newest:
        return _refused(entry, wanted, f"build {build}")
    return None


def _refused(entry: Entry, wanted: str, found: str) -> Denial:
    return Denial(reasons.IDENTITY_NOT_VERIFIED, "no_rollback", wanted, found, entry)
