"""Looks at the file that asks, and carries out what a person chose. The only part of ``approving`` that changes things.

Contract: as ``admitting``: what is approved is the file that asked, and a change of the policy is sealed where a
passphrase is set. Nothing is granted that ``asking.why_not`` objects to.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from keychain_auth.cli.commands.approving.admitting import admit, take_out, unchanged
from keychain_auth.cli.commands.approving.asking import Asked, Choice, Looked, asked_from, permissions, why_not
from keychain_auth.cli.commands.permitting.behalf import approve_pair
from keychain_auth.cli.commands.registering.upgrading import look
from keychain_auth.cli.shared import config_file
from keychain_auth.cli.shared.programs import look_at
from keychain_auth.cli.shared.temporary import grant_document
from keychain_auth.client import admin
from keychain_auth.daemon.places import Places
from keychain_auth.errors import KeychainAuthError, UsageError
from keychain_auth.identity.signature import key_text
from keychain_auth.model import Entry
from keychain_auth.policy import edit
from keychain_auth.policy.interpreters import is_interpreter

_TEN_MINUTES = "10m"
_WAIT_SECONDS = 30.0  # more than the daemon keeps a question for news


def who_waits(places: Places, version: int) -> tuple[int, list[Asked]]:
    """Everybody who waits, once that is other than ``version``, or after some seconds. Raises KeychainAuthError."""
    answer: dict[str, Any] = admin.ask("waiting", socket=places.agent_socket, timeout=_WAIT_SECONDS, number=version)
    try:
        return int(answer["version"]), [asked_from(one) for one in answer["waiting"]]
    except (KeyError, TypeError, ValueError):
        raise KeychainAuthError(
            "this daemon is of another version than this command", hint="keychain-auth restart"
        ) from None


def look_into(places: Places, asked: Asked) -> Looked:
    """What can be found out about the file that asks. Raises nothing for what a program or a file can do."""
    path, digest = asked.entry.path, asked.entry.hash.removeprefix("sha256:")
    seen = look(path, ())
    if seen.problem:
        return Looked(problem=seen.problem)
    if seen.sha256 != digest:
        return Looked(problem=f"the file at {path} is not the one that asks any more")
    if asked.entry.interpreter is None and is_interpreter(path):
        return Looked(problem="it runs other programs, so it is never approved by itself")
    signer, trusted = _signer(places, path)
    return Looked(
        package=seen.claim.package if seen.claim else "",
        package_fits=seen.claim is not None and seen.of_root and seen.claim.digest in (seen.sha256, seen.md5),
        signer=signer,
        signer_trusted=trusted,
        grants=_grants(places, asked),
    )


def answer(places: Places, asked: Asked, looked: Looked, choice: Choice) -> str:
    """Do what was chosen, and say in a line what was done. Raises KeychainAuthError, OSError: then nothing was."""
    if objection := why_not(choice, asked, looked):
        raise UsageError(f"{asked.entry.path}: {objection}")
    if choice is Choice.NOT_NOW:
        admin.ask("waiting-refuse", socket=places.agent_socket, target=asked.id)
        return f"{asked.entry.path}: not now"
    if asked.entry.helper is not None:
        unchanged(asked.entry)
        config_file.change(places, lambda document: (approve_pair(document, asked.entry), None))
        take_out(places, asked.entry)
        return f"{asked.entry.path} may stand behind {asked.entry.helper.path}"

    def grant(document: edit.Document, path: str) -> edit.Document:
        return document if looked.grants is not None else _granted(document, path, asked, choice)

    admitted = admit(places, asked.entry, grant, demands={})
    start = "; start it by keychain-auth launch" if admitted.interpreter is not None else ""
    what = "renewed, with the grants that it had" if looked.grants is not None else choice.label
    return f"{asked.entry.path}: {what}{start}"


def _granted(document: edit.Document, path: str, asked: Asked, choice: Choice) -> edit.Document:
    if choice is Choice.NEVER:
        return document
    for each in permissions(asked):
        if choice in (Choice.ONCE, Choice.TEN_MINUTES):
            grant = grant_document(
                each.service, read=each.read, write=each.write, targets=each.exact or (), lasts=_TEN_MINUTES,
                uses=each.requests if choice is Choice.ONCE else None, behind="",
            )  # fmt: skip
            document = edit.grant_for_a_time(document, path, grant)
            continue
        all_of_it = choice is Choice.GOOD
        document = edit.authorize(
            document, path, each.service,
            read=each.read or all_of_it, write=each.write or all_of_it, search=each.search or all_of_it,
        )  # fmt: skip
    return document


def _signer(places: Places, path: str) -> tuple[str, bool]:
    """Whose signature the file carries, and whether anybody trusts that key."""
    with contextlib.suppress(KeychainAuthError):
        known = config_file.read(places)
        file = look_at(path, known.signers)
        if file.signature is not None:
            services = ", ".join(sorted(known.signers[file.signature.key]))
            return f"{key_text(file.signature.key)}, trusted for {services}", True
        if file.trailer is not None:
            return "signed by a key that is not trusted here", False
    return "", False


def _grants(places: Places, asked: Asked) -> tuple[str, ...] | None:
    """What the program's path may do already, None if it is not registered."""
    with contextlib.suppress(KeychainAuthError):
        entries = config_file.read(places).by_path.get(asked.entry.path)
        if entries:
            return tuple(line for entry in entries for line in _lines(entry))
    return None


def _lines(entry: Entry) -> list[str]:
    return [
        *(f"read {service}" for service in sorted(entry.read_services)),
        *(f"write {service}" for service in sorted(entry.write_services)),
        *(["search"] if entry.can_search else []),
    ]


def now() -> str:
    """The time of day, for a line about what was done."""
    return datetime.now(UTC).strftime("%H:%M:%S")
