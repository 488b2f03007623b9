"""One program of config.json to an Entry, or an error that names the line and the field. Pure.

Contract: as ``policy.parse``, whose part for one entry this is. What the types cannot say is refused here: names that
no request can have, fields that contradict each other, empty lists that could be read as "all".
"""

from __future__ import annotations

import re

import msgspec

from keychain_auth.limits import LONGEST_SERVICE, LONGEST_TARGET
from keychain_auth.model import Behind, Entry, Grade, Launch, Temporary
from keychain_auth.moments import moment_of
from keychain_auth.policy.documents import BehindDocument, EntryDocument, LaunchDocument, TemporaryDocument
from keychain_auth.policy.fields import check_name, grade_of, moment, parse_hash, program_of, public_key, refuse
from keychain_auth.policy.grace import MOST_SECONDS
from keychain_auth.policy.names import is_absolute

_MOST_USES = 1_000_000
_ID = re.compile(r"[0-9a-f]{8,64}")


def compile_entry(text: str, field: str, document: EntryDocument) -> Entry:
    """The entry that ``document`` says, which stands at ``field`` of ``text``. Raises PolicyFormatError."""
    interpreter = None
    if document.interpreter is not None:
        interpreter = program_of(text, f"{field}.interpreter", document.interpreter)
    for name in ("allowed_read_services", "allowed_write_services", "allowed_targets"):
        longest = LONGEST_TARGET if name == "allowed_targets" else LONGEST_SERVICE
        for number, word in enumerate(getattr(document, name) or ()):
            check_name(text, f"{field}.{name}[{number}]", word, longest)
    targets = document.allowed_targets
    minimum = Grade.USER if interpreter is None else Grade.LAUNCHED
    if document.minimum_grade is not None:
        minimum = grade_of(text, f"{field}.minimum_grade", document.minimum_grade)
    return Entry(
        program=program_of(text, field, document),
        read_services=frozenset(document.allowed_read_services),
        write_services=frozenset(document.allowed_write_services),
        can_search=document.can_search,
        registered_at=document.registered_at,
        interpreter=interpreter,
        minimum_grade=minimum,
        allowed_targets=None if targets is None else tuple(targets),
        libraries=frozenset(
            program_of(text, f"{field}.libraries[{number}]", library)
            for number, library in enumerate(document.libraries)
        ),
        executable_memory=document.executable_memory,
        foreign_mounts=document.foreign_mounts,
        strict=document.strict,
        signer=_signer(text, field, document),
        no_rollback=document.no_rollback,
        launch=_launch(text, field, document.launch),
        grace_seconds=document.grace_seconds,
        allow_stale_reads=document.allow_stale_reads,
        on_behalf_of=_on_behalf_of(text, field, document.on_behalf_of),
        users=_users(text, f"{field}.users", document.users),
        guarded=document.guarded,
        publisher=_publisher(text, field, document),
        temporary=tuple(
            _temporary(text, f"{field}.temporary_grants[{number}]", grant)
            for number, grant in enumerate(document.temporary_grants)
        ),
    )


def _users(text: str, field: str, names: list[str] | None) -> frozenset[str] | None:
    """Names of users, or their numbers. An empty list is refused: it would mean nobody, or be read as everybody."""
    if names is None:
        return None
    if not names:
        refuse(text, field, "name at least one user, or leave the field out")
    for number, name in enumerate(names):
        check_name(text, f"{field}[{number}]", name, LONGEST_SERVICE)
    return frozenset(names)


def _publisher(text: str, field: str, document: EntryDocument) -> str:
    if document.publisher is None:
        return ""
    if document.interpreter is not None:
        refuse(text, f"{field}.publisher", "a script has no publisher: that of its interpreter says nothing of it")
    check_name(text, f"{field}.publisher", document.publisher, LONGEST_SERVICE)
    return document.publisher


def _signer(text: str, field: str, document: EntryDocument) -> bytes | None:
    if document.signer is None:
        if document.no_rollback:
            refuse(text, f"{field}.no_rollback", "a build number counts only if it is signed: name the signer")
        return None
    if document.interpreter is not None:
        refuse(text, f"{field}.signer", "a script cannot be signed")
    return public_key(text, f"{field}.signer", document.signer)


def _on_behalf_of(
    text: str, entry_field: str, documents: list[str | BehindDocument] | None
) -> tuple[Behind, ...] | None:
    if documents is None:
        return None
    found = []
    for number, document in enumerate(documents):
        field = f"{entry_field}.on_behalf_of[{number}]"
        behind = BehindDocument(document) if isinstance(document, str) else document
        sha256 = "" if isinstance(document, str) or not document.hash else parse_hash(document.hash)
        if sha256 is None:
            refuse(text, f"{field}.hash", "a hash is sha256:<64 hex digits>, or the digits alone")
        for path in (behind.path, behind.interpreter or "/"):
            if not is_absolute(path) or "\0" in path:
                refuse(text, field, "a path is absolute")
        found.append(Behind(behind.path, sha256, behind.interpreter))
    return tuple(found)


def _temporary(text: str, field: str, document: TemporaryDocument) -> Temporary:
    check_name(text, f"{field}.service", document.service, LONGEST_SERVICE)
    for number, target in enumerate(document.targets or ()):
        check_name(text, f"{field}.targets[{number}]", target, LONGEST_TARGET)
    if not _ID.fullmatch(document.id):
        refuse(text, f"{field}.id", "8 to 64 hex digits, another one for each grant")
    if not (document.read or document.write):
        refuse(text, field, "read, write or both")
    if not document.expires_at and document.uses is None:
        refuse(text, field, "a grant that ends has expires_at, uses or both")
    if document.uses is not None and not 1 <= document.uses <= _MOST_USES:
        refuse(text, f"{field}.uses", f"1 to {_MOST_USES}")
    expires, granted = (
        moment(text, f"{field}.{name}", getattr(document, name)) for name in ("expires_at", "granted_at")
    )
    return Temporary(
        document.id,
        document.service,
        document.read,
        document.write,
        None if document.targets is None else frozenset(document.targets),
        expires,
        document.expires_at,
        0 if expires is None or granted is None else max(0, round(expires - granted)),
        document.uses,
        document.on_behalf_of,
    )


def _launch(text: str, entry_field: str, document: LaunchDocument | None) -> Launch:
    if document is None:
        return Launch()
    field = f"{entry_field}.launch"
    for name in ("prefix", "imports"):
        value = getattr(document, name)
        for path in value if isinstance(value, list) else (value or "/",):
            if not is_absolute(path) or "\0" in path:
                refuse(text, f"{field}.{name}", "a path is absolute")
    trees = (program_of(text, f"{field}.trees[{number}]", tree) for number, tree in enumerate(document.trees))
    return Launch(document.prefix, tuple(document.imports), tuple(trees))


def previous_versions(text: str, field: str, document: EntryDocument, entry: Entry) -> dict[tuple[str, str], Entry]:
    """The entry as it counts for each version before, by path and hash. Raises PolicyFormatError."""
    if not 0 <= document.grace_seconds <= MOST_SECONDS:
        refuse(text, f"{field}.grace_seconds", f"0 to {MOST_SECONDS} seconds (7 days)")
    found = {}
    for number, version in enumerate(document.previous):
        sha256 = parse_hash(version.hash)
        if sha256 is None:
            refuse(text, f"{field}.previous[{number}].hash", "a hash is sha256:<64 hex digits>, or the digits alone")
        try:
            until = moment_of(version.until)
        except ValueError:
            refuse(text, f"{field}.previous[{number}].until", "a moment is written 2026-05-21T12:00:00Z")
        found[entry.program.path, sha256] = msgspec.structs.replace(entry, until=until)
    return found
