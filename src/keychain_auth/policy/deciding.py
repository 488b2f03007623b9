"""Which lines of config.json a decision came from. Pure: the text of the file in, fields and line numbers out.

Contract: every field named here is one that, were it otherwise, could change the decision. A field that the file leaves
out is named all the same, with the line where its entry begins: its default decided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keychain_auth.identity.signature import parse_public_key
from keychain_auth.model import Denial, Entry, Request
from keychain_auth.policy.fields import parse_hash
from keychain_auth.policy.locate import line_of
from keychain_auth.policy.parse import parse_document

_OWN_FIELDS = frozenset((
    "hash", "interpreter", "allowed_read_services", "allowed_write_services", "can_search", "allowed_targets",
    "minimum_grade", "libraries", "executable_memory", "foreign_mounts", "signer", "no_rollback", "launch", "previous",
))  # fmt: skip
_LIST_OF = {
    "read": "allowed_read_services",
    "search": "allowed_read_services",
    "write": "allowed_write_services",
    "delete": "allowed_write_services",
}


class Line(NamedTuple):
    """``line`` is 1-based, ``field`` a JSON path (``$.registered_binaries[2].can_search``)."""

    line: int
    field: str


def why_not(content: bytes, denial: Denial, request: Request) -> list[Line]:
    """The line that stands in the way; none if no entry is concerned. Raises PolicyFormatError."""
    if denial.entry is None:
        return []
    text, document = parse_document(content)
    where = _where(document, denial.entry, request.service)
    if where is None:
        return []
    if denial.field == "services":
        index = _index(document.get("services", []), lambda one: one["service"] == request.service)
        return [] if index is None else [_line(text, f"$.services[{index}].minimum_grade")]
    if denial.grant:  # which of them, for there may be one for each agent
        grants = document["registered_binaries"][_number(where)].get("temporary_grants", [])
        number = _index(grants, lambda one: one["id"] == denial.grant)
        return [_line(text, f"{where}.temporary_grants" + ("" if number is None else f"[{number}]"))]
    # Another field of an entry that can say no (the run time of a grant, say) has its own name in the file too.
    known = denial.field in _OWN_FIELDS or (
        where.startswith("$.registered") and denial.field in document["registered_binaries"][_number(where)]
    )
    return [_line(text, f"{where}.{denial.field}" if known else where)]


def why(content: bytes, entry: Entry, request: Request, behind: str | None = None) -> list[Line]:
    """The lines that a grant rests on: the service, and where they count can_search and the targets' prefixes.

    ``behind``: of grants that end only those that count while this program stands behind it.
    Raises PolicyFormatError.
    """
    text, document = parse_document(content)
    where = _where(document, entry, request.service)
    if where is None:
        return []
    if not where.startswith("$.registered"):
        return [_line(text, where)]
    stands = document["registered_binaries"][_number(where)]
    services = _LIST_OF[request.action]
    if request.service not in stands.get(services, []):  # not for good: by a grant that ends
        allows = "read" if request.action == "read" else "write"
        return [
            _line(text, f"{where}.temporary_grants[{number}]")
            for number, grant in enumerate(stands.get("temporary_grants", []))
            if grant["service"] == request.service
            and grant.get(allows)
            and (behind is None or grant.get("on_behalf_of", "") in ("", behind))
        ]
    fields = [f"{services}[{stands[services].index(request.service)}]"]
    if request.action == "search" or request.match == "prefix":
        fields.append("can_search")
    if entry.allowed_targets is not None:
        fields += [
            f"allowed_targets[{number}]"
            for number, prefix in enumerate(stands["allowed_targets"])
            if not request.targets or any(target.startswith(prefix) for target in request.targets)
        ]
    return [_line(text, f"{where}.{field}") for field in fields]


def _where(document: dict[str, Any], entry: Entry, service: str) -> str | None:
    """The JSON path of the entry in the file, or of the signer that vouches for a program without one."""
    if entry.automatic:
        index = _index(
            document.get("trusted_signers", []),
            lambda one: one["service"] == service and parse_public_key(one["public_key"]) == entry.signer,
        )
        if index is None:  # trusted, but for another service
            index = _index(
                document.get("trusted_signers", []), lambda one: parse_public_key(one["public_key"]) == entry.signer
            )
        return None if index is None else f"$.trusted_signers[{index}]"
    entries = document.get("registered_binaries", [])
    index = _index(
        entries, lambda one: one["path"] == entry.program.path and parse_hash(one["hash"]) == entry.program.sha256
    )
    return None if index is None else f"$.registered_binaries[{index}]"


def _index(elements: list[Any], fits: Callable[[Any], bool]) -> int | None:
    return next((number for number, one in enumerate(elements) if fits(one)), None)


def _number(where: str) -> int:
    return int(where.rpartition("[")[2].removesuffix("]"))


def _line(text: str, field: str) -> Line:
    return Line(line_of(text, field), field)
