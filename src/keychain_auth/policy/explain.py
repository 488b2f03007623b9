"""A decision in words, for logs and for ``check``: the entry, the field, what was wanted, what was there."""

from __future__ import annotations

from shlex import quote

from msgspec import structs

from keychain_auth.identity.signature import key_text
from keychain_auth.model import Denial, Entry, Grade
from keychain_auth.policy import temporary
from keychain_auth.policy.behalf import FIELD
from keychain_auth.policy.interpreters import runs_no_script
from keychain_auth.policy.parse import Policy
from keychain_auth.reasons import GRANT_ENDED, PENDING_APPROVAL

NEVER_APPROVED = "a relay or a wrapper is never approved: keychain-auth register PATH, of the program behind it"


def explain(denial: Denial) -> str:
    """One line that says why. It may hold names that a client chose: escape before printing."""
    where = f"entry {denial.entry.program.path}: " if denial.entry is not None else ""
    if denial.field == "hash":
        return f"{where}hash: registered {denial.found}, now {denial.wanted}"
    if denial.field == "path" and denial.entry is not None:
        return f"{where}{denial.found}"
    if denial.field == "services":
        return f"{where}the service asks for {denial.wanted} or surer (keychain-auth require), found {denial.found}"
    return f"{where}{denial.field}: wanted {denial.wanted}, found {denial.found}"


def mend(denial: Denial, service: str = "") -> str:
    """The command that would change the decision, or an empty string."""
    if denial.entry is None:
        if denial.field == "path":
            return f"keychain-auth register {quote(denial.wanted)}"
        if denial.field == "script":
            return f"keychain-auth register --script {quote(denial.wanted)}"
        if denial.field == "interpreter":
            relay = runs_no_script(denial.found.removesuffix(" alone"))
            return NEVER_APPROVED if relay else "keychain-auth register --script SCRIPT"
        return ""
    path, service = quote(denial.entry.program.path), quote(service)
    register = f"keychain-auth register {'--script ' if denial.entry.interpreter else ''}{path}"
    if denial.entry.automatic and denial.entry.signer is not None:  # it has no entry yet that could say more
        register = f"{register} --signer {key_text(denial.entry.signer)}"
        if denial.field.startswith("allowed_") or denial.field == "can_search":
            return register
    if denial.field == "minimum_grade":
        return _mend_grade(denial.entry, denial.wanted, path, f"{register} --minimum-grade {denial.found}")
    if denial.field == "services":
        less = f"keychain-auth require {service} {denial.found.removeprefix('grade ')}"
        return _mend_grade(denial.entry, denial.wanted.removeprefix("grade "), path, less)
    return {
        "held": f"keychain-auth canary release {path}",
        "hash": f"keychain-auth upgrade {path}",
        "interpreter": f"keychain-auth upgrade {path}",
        "allowed_read_services": f"keychain-auth authorize {path} {service} --read",
        "allowed_write_services": f"keychain-auth authorize {path} {service} --write",
        "can_search": f"keychain-auth authorize {path} {service} --search",
        "path": f"keychain-auth unregister {path}",
        "no_rollback": f"install the newest build, or: {register} --allow-rollback",
        "launch": f"keychain-auth launch {path}",
        "libraries": f"{register} --library {quote(denial.found)}",
        "executable_memory": f"{register} --executable-memory",
        "foreign_mounts": f"{register} --foreign-mounts",
        "allow_stale_reads": f"{register} --stale-reads",
        "guarded": f"keychain-auth-guarded {path}",
        "publisher": f"install what {denial.wanted} signed, or: {register} --no-publisher",
        "users": f"{register} --user {quote(denial.wanted.partition(' ')[0])}",
        "allowed_targets": f"keychain-auth authorize {path} {service} --targets PREFIX",
        FIELD: _mend_behalf(denial, path),
        temporary.FIELD: _mend_temporary(denial, path, service),
    }.get(denial.field, "")


def _mend_temporary(denial: Denial, path: str, service: str) -> str:
    """The grant that decided, once more; for another target, with that one too: it takes the place of the first."""
    grants = () if denial.entry is None else denial.entry.temporary
    like = next((grant for grant in grants if grant.id == denial.grant), None)  # not another agent's
    if denial.entry is None or like is None:
        return f"keychain-auth explain {path} {service}"
    if denial.reason != GRANT_ENDED:
        like = structs.replace(like, targets=frozenset((*(like.targets or ()), denial.wanted)))
    return temporary.again(like, denial.entry.program.path)


def _mend_behalf(denial: Denial, path: str) -> str:
    if denial.reason == PENDING_APPROVAL:
        return f"keychain-auth behalf {path} --allow {quote(denial.wanted)}"
    return f"start it by a program that keychain-auth behalf {path} shows"


def _mend_grade(entry: Entry, wanted: str, path: str, less: str) -> str:
    """How a program gets the grade ``wanted``, or ``less`` is asked of it. (No command of ours makes a file root's.)"""
    if entry.interpreter is not None:
        return f"keychain-auth launch {path}" if wanted == Grade.LAUNCHED else less
    if wanted == Grade.SYSTEM:
        return f"install it as root where only root can write, or: {less}"
    return f"get it signed by a trusted signer, or: {less}" if wanted == Grade.SIGNED else less


def describe_entry(entry: Entry) -> dict[str, object]:
    """An entry as plain data for ``--json`` and for tables."""
    return {
        "path": entry.program.path,
        "hash": f"sha256:{entry.program.sha256}",
        "registered_at": entry.registered_at,
        "allowed_read_services": sorted(entry.read_services),
        "allowed_write_services": sorted(entry.write_services),
        "can_search": entry.can_search,
        "allowed_targets": None if entry.allowed_targets is None else list(entry.allowed_targets),
        "interpreter": None if entry.interpreter is None else entry.interpreter.path,
        "minimum_grade": entry.minimum_grade.value,
        "libraries": sorted(library.path for library in entry.libraries),
        "executable_memory": entry.executable_memory,
        "foreign_mounts": entry.foreign_mounts,
        "strict": entry.strict,
        "users": None if entry.users is None else sorted(entry.users),
        "guarded": entry.guarded,
        "publisher": entry.publisher or None,
        "grace_seconds": entry.grace_seconds,
        "trees": [tree.path for tree in entry.launch.trees],
        "signer": None if entry.signer is None else key_text(entry.signer),
        "no_rollback": entry.no_rollback,
        "allow_stale_reads": entry.allow_stale_reads,
        "on_behalf_of": None if entry.on_behalf_of is None else [behind.path for behind in entry.on_behalf_of],
    }


def in_words(entry: Entry) -> list[str]:
    """What the entry asks for or allows beside its grants, a line for each; empty for one that says nothing of it."""
    said: list[tuple[object, str]] = [
        (entry.strict, "strict mode: code changed in memory and others on its connection are looked for"),
        (entry.publisher, f"its code must be signed by {entry.publisher} (publisher)"),
        (entry.guarded, "must be started with keychain-auth-guarded"),
        (entry.users, f"for {', '.join(sorted(entry.users))} alone (users)" if entry.users else ""),
        (entry.executable_memory, "may run code that it makes itself (executable memory)"),
        (entry.foreign_mounts, "may run with mounts of its own (foreign mounts)"),
        (entry.grace_seconds, f"after an upgrade the version before is served for {entry.grace_seconds} s (grace)"),
        (entry.signer, f"every build signed by {key_text(entry.signer)} counts as it" if entry.signer else ""),
        (entry.allow_stale_reads, "while a keychain is gone, what it answered lately will do (stale reads)"),
        (entry.no_rollback, "a build with a lower number than was seen is refused (no rollback)"),
    ]
    if entry.on_behalf_of is not None:
        named = ", ".join(behind.path for behind in entry.on_behalf_of) or "nobody yet"
        said.append((True, f"answers only on behalf of: {named}"))
    libraries = [f"may load {path} (library)" for path in sorted(library.path for library in entry.libraries)]
    return [*libraries, *(words for there, words in said if there)]


def describe_signers(policy: Policy) -> list[dict[str, str]]:
    """The trusted signers as plain data, one for each key and service."""
    return [
        {"service": service, "public_key": key_text(key)}
        for key, services in policy.signers.items()
        for service in sorted(services)
    ]
