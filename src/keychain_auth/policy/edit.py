"""Changes to config.json as a document: pure functions from the old JSON value to the new one.

They work on the document and not on the compiled policy, so that a file that people edit by hand keeps its order
and its fields. Every result must pass ``parse_policy`` before it is written.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Collection
from typing import Any

from keychain_auth.errors import NotFound, UsageError
from keychain_auth.identity.signature import parse_public_key
from keychain_auth.model import Program
from keychain_auth.policy.documents import PROTOCOL_VERSION
from keychain_auth.policy.fields import parse_hash
from keychain_auth.policy.grace import retire

Document = dict[str, Any]


def empty_document() -> Document:
    """A config.json that allows nothing to nobody."""
    return {"protocol_version": PROTOCOL_VERSION, "registered_binaries": [], "trusted_signers": []}


def register(
    document: Document,
    program: Program,
    now: str,
    *,
    interpreter: Program | None = None,
    demands: Document | None = None,
    without: Collection[str] = (),
) -> tuple[Document, str]:
    """Add an entry with no permission, or give the entries of a known path the new hash.

    ``demands`` are further fields of the entry, as they stand in the file: how surely the program must be known, and
    what it may load. Those of a known path stay where ``demands`` does not name them; libraries add up, one for a path,
    less those with a path in ``without``. Raises NotFound if there are none of these.

    Returns the new document and "registered", "updated" or "unchanged".
    """
    changed = copy.deepcopy(document)
    known = _entries(changed, program.path)
    if known:
        before = copy.deepcopy(known)
        _refresh(changed, program, interpreter, now)
        for existing in known:
            _demand(existing, _added(existing, demands or {}))
        _forget_libraries(known, without)
        return changed, "unchanged" if _entries(changed, program.path) == before else "updated"
    entry: Document = {
        "path": program.path,
        "hash": f"sha256:{program.sha256}",
        "registered_at": now,
        "allowed_read_services": [],
        "allowed_write_services": [],
        "can_search": False,
    }
    if interpreter is not None:
        entry["interpreter"] = {"path": interpreter.path, "hash": f"sha256:{interpreter.sha256}"}
    _demand(entry, demands)
    changed.setdefault("registered_binaries", []).append(entry)
    return changed, "registered"


def upgrade(
    document: Document, program: Program, interpreter: Program | None = None, *, now: str,
    demands: Document | None = None,
) -> tuple[Document, str]:  # fmt: skip
    """Give a known path its new hash, grants kept; ``demands`` as for ``register``. Raises NotFound for an unknown
    path."""
    changed = copy.deepcopy(document)
    before = copy.deepcopy(_known(changed, program.path))
    _refresh(changed, program, interpreter, now)
    for existing in _known(changed, program.path):
        existing.update(demands or {})
    return changed, "unchanged" if _entries(changed, program.path) == before else "updated"


def authorize(
    document: Document,
    path: str,
    service: str,
    *,
    read: bool,
    write: bool,
    search: bool,
    targets: tuple[str, ...] = (),
    demands: Document | None = None,
) -> Document:
    """Add grants to the entries of ``path``; ``demands`` as in ``register``. Raises NotFound for an unknown path."""
    changed = copy.deepcopy(document)
    for entry in _known(changed, path):
        if read:
            _add(entry, "allowed_read_services", service)
        if write:
            _add(entry, "allowed_write_services", service)
        if search:
            entry["can_search"] = True
        for target in targets:
            _add(entry, "allowed_targets", target)
        _demand(entry, demands)
    return changed


def revoke(document: Document, path: str, service: str | None) -> tuple[Document, bool]:
    """Take one service, or with None every grant, from ``path``: those that end too. True if something was there.

    ``allowed_targets`` stays: it limits, it gives nothing. Raises NotFound for an unknown path.
    """
    changed = copy.deepcopy(document)
    for entry in _known(changed, path):
        if "temporary_grants" in entry:
            entry["temporary_grants"] = [
                each for each in entry["temporary_grants"] if service not in (None, each["service"])
            ]
            if not entry["temporary_grants"]:
                del entry["temporary_grants"]
        if service is None:
            entry["allowed_read_services"] = []
            entry["allowed_write_services"] = []
            entry["can_search"] = False
        else:
            for field in ("allowed_read_services", "allowed_write_services"):
                entry[field] = [name for name in entry.get(field, []) if name != service]
    return changed, changed != document


def unregister(document: Document, path: str) -> Document:
    """Remove every entry of ``path``. Raises NotFound for an unknown path."""
    changed = copy.deepcopy(document)
    _known(changed, path)
    changed["registered_binaries"] = [entry for entry in changed["registered_binaries"] if entry["path"] != path]
    return changed


def grant_for_a_time(document: Document, path: str, grant: Document) -> Document:
    """Give the entries of ``path`` the temporary ``grant``, in place of those that they have for the same service and
    requester. Each entry gets an id of its own, or uses would be shared. Raises NotFound for an unknown path."""
    changed = copy.deepcopy(document)
    which = grant["service"], grant.get("on_behalf_of")
    for number, entry in enumerate(_known(changed, path)):
        others = [
            each for each in entry.get("temporary_grants", []) if (each["service"], each.get("on_behalf_of")) != which
        ]
        entry["temporary_grants"] = [*others, grant if number == 0 else {**grant, "id": f"{grant['id']}{number:02x}"}]
    return changed


def answer_for(document: Document, path: str, behind: list[str | Document] | None) -> Document:
    """Let the helper ``path`` answer only on behalf of ``behind``; None: of anyone. Raises NotFound."""
    changed = copy.deepcopy(document)
    for entry in _known(changed, path):
        entry.pop("on_behalf_of", None)
        if behind is not None:
            entry["on_behalf_of"] = behind
    return changed


def stand_behind(document: Document, path: str, behind: str | Document) -> Document:
    """Let ``behind`` stand behind the helper ``path``, in place of another version of it. Raises NotFound."""
    changed = copy.deepcopy(document)
    for entry in _known(changed, path):
        others = [each for each in entry.get("on_behalf_of") or [] if behind_path(each) != behind_path(behind)]
        entry["on_behalf_of"] = [*others, behind]
    return changed


def step_back(document: Document, path: str, names: Collection[str]) -> Document:
    """Let none of ``names`` stand behind the helper ``path``. Raises NotFound if none of them does."""
    changed = copy.deepcopy(document)
    for entry in _known(changed, path):
        if entry.get("on_behalf_of"):
            entry["on_behalf_of"] = [each for each in entry["on_behalf_of"] if behind_path(each) not in names]
    if changed == document:
        raise NotFound(f"{min(names)} does not stand behind {path}", hint=f"keychain-auth behalf {shlex.quote(path)}")
    return changed


def behind_path(behind: str | Document) -> str:
    """The path of an element of ``on_behalf_of``."""
    return behind if isinstance(behind, str) else str(behind["path"])


def _added(entry: Document, demands: Document) -> Document:
    fields = dict(demands)
    if "libraries" in fields:
        named = {library["path"] for library in fields["libraries"]}
        kept = [library for library in entry.get("libraries", []) if library["path"] not in named]
        fields["libraries"] = [*kept, *fields["libraries"]]
    return fields


def _forget_libraries(entries: list[Document], paths: Collection[str]) -> None:
    """Take the libraries at ``paths`` out. Raises NotFound if there is none: a slip must not look like success."""
    taken = [each for entry in entries for each in entry.get("libraries", []) if each["path"] in paths]
    if paths and not taken:
        raise NotFound(f"no library {min(paths)} stands in the entry", hint="keychain-auth list")
    for entry in entries:
        if taken and "libraries" in entry:
            entry["libraries"] = [each for each in entry["libraries"] if each not in taken]


def require_grade(document: Document, service: str, minimum: str | None) -> Document:
    """Let ``service`` ask for a minimum grade of every program; with None let it ask for nothing."""
    return _with_service(document, service, {"minimum_grade": minimum})


def share(document: Document, service: str, *, shared: bool) -> Document:
    """Let the secrets of ``service`` be the same for all users of a system daemon, or each user's own."""
    return _with_service(document, service, {"shared": shared or None})


def _with_service(document: Document, service: str, fields: Document) -> Document:
    """What is said about ``service``, with these fields changed; None takes a field away."""
    changed = copy.deepcopy(document)
    services = changed.get("services", [])
    said = next((each for each in services if each["service"] == service), {"service": service})
    said = {name: value for name, value in {**said, **fields}.items() if value is not None}
    others = [each for each in services if each["service"] != service]
    changed["services"] = [*others, said] if len(said) > 1 else others
    return changed


def trust(document: Document, service: str, public_key: str) -> tuple[Document, str]:
    """Let what ``public_key`` (base64) signed use ``service``. "trusted", or "unchanged" if it may already."""
    changed = copy.deepcopy(document)
    signers = changed.setdefault("trusted_signers", [])
    key = parse_public_key(public_key)
    if any(signer["service"] == service and parse_public_key(signer["public_key"]) == key for signer in signers):
        return changed, "unchanged"
    signers.append({"service": service, "public_key": public_key})
    return changed, "trusted"


def distrust(
    document: Document, *, service: str | None = None, key: bytes | None = None
) -> tuple[Document, list[Document]]:
    """Take away the signers of ``service``, or the 32-byte ``key`` for every service; and which these were."""
    changed = copy.deepcopy(document)
    taken = [
        signer
        for signer in changed.get("trusted_signers", [])
        if signer["service"] == service or parse_public_key(signer["public_key"]) == key
    ]
    changed["trusted_signers"] = [signer for signer in changed.get("trusted_signers", []) if signer not in taken]
    return changed, taken


def _demand(entry: Document, demands: Document | None) -> None:
    entry.update(demands or {})
    if entry.get("no_rollback") and not entry.get("signer"):
        raise UsageError(
            "a build number counts only if it is signed: who is the signer?",
            hint=f"keychain-auth register {shlex.quote(entry['path'])} --signer KEY --no-rollback",
        )


def refresh_files(document: Document, path: str, hashes: dict[str, str], now: str) -> Document:
    """Give the entry of ``path``, its interpreter and its libraries the new ``hashes`` (bare hex by path), grants kept.

    Raises NotFound for an unknown path, UsageError where several entries have it.
    """
    if not hashes:
        return document
    changed = copy.deepcopy(document)
    entries = _known(changed, path)
    if len(entries) > 1:
        raise UsageError(f"{path} has {len(entries)} entries, and which one to renew is doubtful")
    [entry] = entries
    if path in hashes:
        _replace(entry, hashes[path], now)
    for part in (entry.get("interpreter"), *entry.get("libraries", [])):
        if part and part["path"] in hashes:
            part["hash"] = f"sha256:{hashes[part['path']]}"
    return changed


def _replace(entry: Document, sha256: str, now: str) -> None:
    """A new hash for the entry's own file, in place."""
    old = parse_hash(entry["hash"])
    if old is not None and old != sha256:
        retire(entry, old, sha256, now)
        entry["hash"] = f"sha256:{sha256}"


def _refresh(document: Document, program: Program, interpreter: Program | None, now: str) -> None:
    entries = _known(document, program.path)
    if any(bool(entry.get("interpreter")) != (interpreter is not None) for entry in entries):
        kind = "a program of its own" if interpreter is None else "a script"
        raise UsageError(
            f"{program.path} is registered otherwise than as {kind}",
            hint=f"keychain-auth unregister {shlex.quote(program.path)}",
        )
    if len(entries) > 1:
        hashes = {parse_hash(entry["hash"]) for entry in entries}
        if program.sha256 in hashes:
            return
        raise UsageError(
            f"{program.path} has {len(entries)} entries, and which one to renew is doubtful",
            hint=f"keychain-auth unregister {shlex.quote(program.path)}",
        )
    _replace(entries[0], program.sha256, now)
    if interpreter is not None:
        entries[0]["interpreter"] = {"path": interpreter.path, "hash": f"sha256:{interpreter.sha256}"}


def _entries(document: Document, path: str) -> list[Document]:
    return [entry for entry in document.get("registered_binaries", []) if entry["path"] == path]


def _known(document: Document, path: str) -> list[Document]:
    entries = _entries(document, path)
    if not entries:
        raise NotFound(f"{path} is not registered", hint=f"keychain-auth register {shlex.quote(path)}")
    return entries


def _add(entry: Document, field: str, word: str) -> None:
    words = entry.get(field) or []
    if word not in words:
        entry[field] = [*words, word]
