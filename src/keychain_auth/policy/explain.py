"""A decision in words, for logs and for ``check``: the entry, the field, what was wanted, what was there."""

from __future__ import annotations

from shlex import quote

from keychain_auth.identity.signature import key_text
from keychain_auth.model import Denial, Entry, Grade
from keychain_auth.policy.parse import Policy


def explain(denial: Denial) -> str:
    """One line that says why. It may hold names that a client chose: escape before printing."""
    where = f"entry {denial.entry.program.path}: " if denial.entry is not None else ""
    return f"{where}{denial.field}: wanted {denial.wanted}, found {denial.found}"


def mend(denial: Denial, service: str = "") -> str:
    """The command that would change the decision, or an empty string."""
    if denial.entry is None:
        if denial.field == "path":
            return f"keychain-auth register {quote(denial.wanted)}"
        if denial.field == "script":
            return f"keychain-auth register --script {quote(denial.wanted)}"
        return "keychain-auth register --script SCRIPT" if denial.field == "interpreter" else ""
    path, service = quote(denial.entry.program.path), quote(service)
    register = f"keychain-auth register {'--script ' if denial.entry.interpreter else ''}{path}"
    if denial.entry.automatic and denial.entry.signer is not None:  # it has no entry yet that could say more
        register = f"{register} --signer {key_text(denial.entry.signer)}"
        if denial.field.startswith("allowed_") or denial.field == "can_search":
            return register
    return {
        "hash": f"keychain-auth upgrade {path}",
        "interpreter": f"keychain-auth upgrade {path}",
        "allowed_read_services": f"keychain-auth authorize {path} {service} --read",
        "allowed_write_services": f"keychain-auth authorize {path} {service} --write",
        "can_search": f"keychain-auth authorize {path} {service} --search",
        "minimum_grade": _mend_grade(denial, path),
        "services": _mend_grade(denial, path),
        "launch": f"keychain-auth launch {path}",
        "libraries": f"{register} --library {quote(denial.found)}",
        "executable_memory": f"{register} --executable-memory",
        "foreign_mounts": f"{register} --foreign-mounts",
        "allowed_targets": f"keychain-auth authorize {path} {service} --targets PREFIX",
    }.get(denial.field, "")


def _mend_grade(denial: Denial, path: str) -> str:
    """How a program gets a surer grade. What cannot be had by a command of ours is said in the documents."""
    if denial.entry is not None and denial.entry.interpreter is not None and denial.wanted.endswith(Grade.LAUNCHED):
        return f"keychain-auth launch {path}"
    return ""


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
        "grace_seconds": entry.grace_seconds,
        "trees": [tree.path for tree in entry.launch.trees],
        "signer": None if entry.signer is None else key_text(entry.signer),
        "no_rollback": entry.no_rollback,
    }


def describe_signers(policy: Policy) -> list[dict[str, str]]:
    """The trusted signers as plain data, one for each key and service."""
    return [
        {"service": service, "public_key": key_text(key)}
        for key, services in policy.signers.items()
        for service in sorted(services)
    ]
