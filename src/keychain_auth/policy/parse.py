"""config.json to a Policy, or an error that names the line and the field.

Contract (protocol, section "Files"): the published names and types, a hash as ``sha256:<64 hex>`` or as bare
hex, plus the optional fields of ours. An unknown field is refused: a misspelt ``allowed_targets`` that were
ignored would allow more than its author meant.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from keychain_auth.errors import PolicyFormatError
from keychain_auth.limits import LONGEST_SERVICE, LONGEST_TARGET
from keychain_auth.model import Behind, Entry, Grade, Launch, Temporary
from keychain_auth.moments import moment_of
from keychain_auth.policy.documents import (
    PROTOCOL_VERSION,
    BehindDocument,
    ConfigDocument,
    EntryDocument,
    LaunchDocument,
    ServiceDocument,
    SignerDocument,
    TemporaryDocument,
)
from keychain_auth.policy.fields import check_name, grade_of, moment, parse_hash, program_of, public_key, refuse
from keychain_auth.policy.grace import MOST_SECONDS
from keychain_auth.policy.locate import repeated_key
from keychain_auth.policy.names import is_absolute

MOST_SIGNERS = 64
"""Different keys in ``trusted_signers``: a file that is signed by nobody of them is hashed once for each."""

_MOST_USES = 1_000_000
_ID = re.compile(r"[0-9a-f]{8,64}")

_FIELD_IN_MESSAGE = re.compile(r" - at `([^`]*)`$")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `([^`.\[]*)`")


class Policy(msgspec.Struct, frozen=True):
    """The compiled policy.

    ``by_program`` finds an entry by (path, sha256) of its subject; ``by_path`` finds those of a path whatever their
    hash, to explain a mismatch. ``interpreters`` are the paths of those that some entry names. ``signers`` has the
    services of each trusted public key (32 bytes). ``service_grades`` are the services that ask for a minimum grade of
    every program. ``by_previous`` has the entries whose program was replaced, by the hash that it had before.
    ``shared`` are services whose secrets are the same for all users (system mode). ``asks_on_behalf``: some entry wants
    to know who stands behind its program.
    """

    by_program: dict[tuple[str, str], Entry]
    by_path: dict[str, tuple[Entry, ...]]
    interpreters: frozenset[str] = frozenset()
    signers: dict[bytes, frozenset[str]] = {}
    service_grades: dict[str, Grade] = {}
    by_previous: dict[tuple[str, str], Entry] = {}
    shared: frozenset[str] = frozenset()
    asks_on_behalf: bool = False


EMPTY = Policy(by_program={}, by_path={})


def parse_policy(content: bytes) -> Policy:
    """The policy that the bytes of config.json say. Raises PolicyFormatError."""
    text, document = parse_document(content)
    config = _convert(text, document)
    if config.protocol_version != PROTOCOL_VERSION:
        refuse(text, "$.protocol_version", f'"{PROTOCOL_VERSION}" is the only version known here')
    by_program: dict[tuple[str, str], Entry] = {}
    by_path: dict[str, tuple[Entry, ...]] = {}
    by_previous: dict[tuple[str, str], Entry] = {}
    for number, entry_document in enumerate(config.registered_binaries):
        entry = _compile(text, f"$.registered_binaries[{number}]", entry_document)
        key = (entry.program.path, entry.program.sha256)
        if key in by_program:
            refuse(text, f"$.registered_binaries[{number}]", "a second entry for the same path and hash")
        if entry.signer is not None and any(other.signer == entry.signer for other in by_path.get(key[0], ())):
            refuse(text, f"$.registered_binaries[{number}].signer", "a second entry for the same path and signer")
        by_program[key] = entry
        by_path[key[0]] = (*by_path.get(key[0], ()), entry)
        by_previous.update(_previous(text, f"$.registered_binaries[{number}]", entry_document, entry))
    _refuse_repeated_ids(text, config.registered_binaries)
    interpreters = frozenset(entry.interpreter.path for entry in by_program.values() if entry.interpreter)
    return Policy(
        by_program,
        by_path,
        interpreters,
        signers=_signers(text, config.trusted_signers),
        service_grades=_service_grades(text, config.services),
        by_previous=by_previous,
        shared=frozenset(service.service for service in config.services if service.shared),
        asks_on_behalf=any(entry.on_behalf_of is not None for entry in (*by_program.values(), *by_previous.values())),
    )


def _refuse_repeated_ids(text: str, documents: list[EntryDocument]) -> None:
    """Uses are counted by id: two grants of one id would share a count."""
    seen: set[str] = set()
    for number, document in enumerate(documents):
        for index, grant in enumerate(document.temporary_grants):
            if grant.id in seen:
                refuse(text, f"$.registered_binaries[{number}].temporary_grants[{index}].id", "this id stands twice")
            seen.add(grant.id)


def parse_document(content: bytes) -> tuple[str, Any]:
    """The text and the JSON value of config.json, duplicate keys refused. Raises PolicyFormatError."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PolicyFormatError("not UTF-8", line=line, field="$") from None
    if not text.strip():
        raise PolicyFormatError("the file is empty", line=1, field="$")
    if text.startswith("\ufeff"):
        raise PolicyFormatError("a byte order mark: save it as UTF-8 without one", line=1, field="$")
    try:
        document = json.loads(text, object_pairs_hook=_unique)
        # A lone surrogate (\\ud800) is no text: it could be read here, and written nowhere.
        json.dumps(document, ensure_ascii=False).encode()
        return text, document
    except json.JSONDecodeError as error:
        raise PolicyFormatError(f"not JSON: {error.msg}", line=error.lineno, field="$") from None
    except ValueError as error:  # a lone surrogate, or a number of more digits than Python reads
        problem = "a lone surrogate" if isinstance(error, UnicodeError) else "a number with too many digits"
        raise PolicyFormatError(problem, line=1, field="$") from None
    except RecursionError:
        raise PolicyFormatError("nested too deeply", line=1, field="$") from None
    except _DuplicateKey:
        field, line = repeated_key(text)
        raise PolicyFormatError("this key stands twice", line=line, field=field) from None


def _compile(text: str, field: str, document: EntryDocument) -> Entry:
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


def _previous(text: str, field: str, document: EntryDocument, entry: Entry) -> dict[tuple[str, str], Entry]:
    """The entry as it counts for each version before, by path and hash."""
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


def _signers(text: str, documents: list[SignerDocument]) -> dict[bytes, frozenset[str]]:
    """The services of each key. One key may stand for several services, and one service may have several keys."""
    signers: dict[bytes, frozenset[str]] = {}
    for number, document in enumerate(documents):
        field = f"$.trusted_signers[{number}]"
        check_name(text, f"{field}.service", document.service, LONGEST_SERVICE)
        key = public_key(text, f"{field}.public_key", document.public_key)
        services = signers.get(key, frozenset())
        if document.service in services:  # who removes one of the two would think that the key is gone
            refuse(text, field, "a second time the same key for the same service")
        signers[key] = services | {document.service}
        if len(signers) > MOST_SIGNERS:
            refuse(text, field, f"more than {MOST_SIGNERS} different keys")
    return signers


def _service_grades(text: str, documents: list[ServiceDocument]) -> dict[str, Grade]:
    grades: dict[str, Grade] = {}
    seen: set[str] = set()
    for number, document in enumerate(documents):
        field = f"$.services[{number}]"
        check_name(text, f"{field}.service", document.service, LONGEST_SERVICE)
        if document.service in seen:
            refuse(text, f"{field}.service", "this service stands twice")
        seen.add(document.service)
        if document.shared and document.service.startswith("@"):
            refuse(text, f"{field}.service", "the name of a shared service does not begin with @")
        if document.minimum_grade is not None:
            grades[document.service] = grade_of(text, f"{field}.minimum_grade", document.minimum_grade)
    return grades


def _convert(text: str, document: Any) -> ConfigDocument:
    try:
        return msgspec.convert(document, ConfigDocument)
    except msgspec.ValidationError as error:
        message = str(error)
        match = _FIELD_IN_MESSAGE.search(message)
        field = match.group(1) if match else "$"
        if unknown := _UNKNOWN_FIELD.match(message):
            refuse(text, f"{field}.{unknown.group(1)}", "a field that this version does not know")
        refuse(text, field, _FIELD_IN_MESSAGE.sub("", message))


class _DuplicateKey(Exception):
    """One object has a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique: dict[str, Any] = {}
    for key, value in pairs:
        if key in unique:
            raise _DuplicateKey
        unique[key] = value
    return unique
