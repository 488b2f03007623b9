"""What differs between two policies: in a sentence for the audit log, in lines for who is about to accept it.

Contract: pure, and in a fixed order. The sentence names paths, services and public keys, which are no secrets; what
does not fit into ``MOST`` characters is cut, and "..." says so. What it leaves out of an entry
(libraries, launch, grace) it names as "other fields".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from keychain_auth.identity.signature import key_text
from keychain_auth.model import Entry
from keychain_auth.policy.parse import Policy, parse_document
from keychain_auth.policy.temporary import describe

MOST = 500  # characters of a sentence in the audit log
_NAMED = (
    "program", "read_services", "write_services", "can_search", "minimum_grade", "allowed_targets", "temporary",
    "on_behalf_of",
)  # fmt: skip
_OTHERS = tuple(
    field for field in Entry.__struct_fields__ if field not in (*_NAMED, "registered_at", "withheld", "until")
)


def summary(before: Policy, after: Policy) -> str:
    """Entries, signers and services that were added, removed or changed; empty if nothing of that was."""
    told = "; ".join((*_entries(before, after), *_signers(before, after), *_services(before, after)))
    return told if len(told) <= MOST else told[: MOST - 3] + "..."


def difference_lines(before: str, after: str) -> list[str]:
    """The lines that differ between two texts of config.json, whatever their formatting. Raises PolicyFormatError."""
    old, new = (json.dumps(parse_document(text.encode())[1], indent=2).splitlines() for text in (before, after))
    import difflib  # noqa: PLC0415 - the daemon loads this file, and needs this only when a policy changes

    return list(difflib.unified_diff(old, new, "accepted", "config.json", lineterm=""))


def _entries(before: Policy, after: Policy) -> Iterator[str]:
    for path in sorted(before.by_path.keys() | after.by_path.keys()):
        old, new = list(before.by_path.get(path, ())), list(after.by_path.get(path, ()))
        same = [entry for entry in old if entry in new]
        old, new = ([entry for entry in entries if entry not in same] for entries in (old, new))
        # An upgrade gives an entry a new hash: entries of one path are compared in the order of the file.
        for was, now in zip(old, new, strict=False):
            yield f"changed {path}: {', '.join(_changes(was, now)) or 'registered_at'}"
        for entry in old[len(new) :]:
            yield f"removed {path}{_grants(entry, '-')}"
        for entry in new[len(old) :]:
            yield f"added {path}{_grants(entry, '+')}"


def _grants(entry: Entry, sign: str) -> str:
    words = [*_listed("read", sign, entry.read_services), *_listed("write", sign, entry.write_services)]
    if entry.can_search:
        words.append(f"{sign}search")
    return f": {', '.join([*words, f'minimum grade {entry.minimum_grade.value}'])}"


def _changes(was: Entry, now: Entry) -> Iterator[str]:
    for word, old, new in (
        ("read", was.read_services, now.read_services),
        ("write", was.write_services, now.write_services),
    ):
        yield from _listed(word, "+", new - old)
        yield from _listed(word, "-", old - new)
    if was.can_search != now.can_search:
        yield "+search" if now.can_search else "-search"
    if was.allowed_targets != now.allowed_targets:
        yield "targets any" if now.allowed_targets is None else f"targets {' '.join(now.allowed_targets) or 'none'}"
    old_grants, new_grants = set(was.temporary), set(now.temporary)
    for sign, grants in (("+", new_grants - old_grants), ("-", old_grants - new_grants)):
        for grant in sorted(grants, key=lambda one: one.id):
            yield f"{sign}temporary {grant.id}: {describe(grant)}"
    if was.on_behalf_of != now.on_behalf_of:
        behind = "anyone" if now.on_behalf_of is None else " ".join(one.path for one in now.on_behalf_of) or "nobody"
        yield f"on behalf of {behind}"
    if was.minimum_grade != now.minimum_grade:
        yield f"minimum grade {was.minimum_grade.value} to {now.minimum_grade.value}"
    if was.program != now.program:
        yield "hash"
    if any(getattr(was, field) != getattr(now, field) for field in _OTHERS):
        yield "other fields"


def _listed(word: str, sign: str, services: Iterable[str]) -> list[str]:
    return [f"{sign}{word} {service}" for service in sorted(services)]


def _signers(before: Policy, after: Policy) -> Iterator[str]:
    old, new = ({(key, service) for key in each.signers for service in each.signers[key]} for each in (before, after))
    for word, pairs in (("trusted", new - old), ("no longer trusted", old - new)):
        for key, service in sorted(pairs):
            yield f"{word} {key_text(key)} for {service}"


def _services(before: Policy, after: Policy) -> Iterator[str]:
    for service in sorted(before.service_grades.keys() | after.service_grades.keys()):
        was, now = before.service_grades.get(service), after.service_grades.get(service)
        if was != now:
            yield f"{service} asks for grade {now.value if now is not None else 'none'}"
    for service in sorted(before.shared ^ after.shared):
        yield f"{service} is {'shared by all users' if service in after.shared else 'of each user'}"


__all__ = ["MOST", "difference_lines", "summary"]
