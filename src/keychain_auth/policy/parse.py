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
from keychain_auth.limits import LONGEST_SERVICE
from keychain_auth.model import Entry, Grade
from keychain_auth.policy.documents import (
    PROTOCOL_VERSION,
    ConfigDocument,
    EntryDocument,
    ServiceDocument,
    SignerDocument,
)
from keychain_auth.policy.entries import compile_entry, previous_versions
from keychain_auth.policy.fields import check_name, grade_of, public_key, refuse
from keychain_auth.policy.locate import repeated_key

MOST_SIGNERS = 64
"""Different keys in ``trusted_signers``: a file that is signed by nobody of them is hashed once for each."""


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
        entry = compile_entry(text, f"$.registered_binaries[{number}]", entry_document)
        key = (entry.program.path, entry.program.sha256)
        if key in by_program:
            refuse(text, f"$.registered_binaries[{number}]", "a second entry for the same path and hash")
        if entry.signer is not None and any(other.signer == entry.signer for other in by_path.get(key[0], ())):
            refuse(text, f"$.registered_binaries[{number}].signer", "a second entry for the same path and signer")
        by_program[key] = entry
        by_path[key[0]] = (*by_path.get(key[0], ()), entry)
        by_previous.update(previous_versions(text, f"$.registered_binaries[{number}]", entry_document, entry))
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
