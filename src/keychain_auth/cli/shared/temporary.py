"""Grants that end, for the command line: from the options of ``authorize`` to the entry, and what is left of them."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from keychain_auth.cli.shared.options import checked_target
from keychain_auth.cli.shared.programs import spellings
from keychain_auth.client import admin
from keychain_auth.daemon.places import Places
from keychain_auth.errors import KeychainAuthError, UsageError
from keychain_auth.model import Denial, Entry, Program, Request, Requester
from keychain_auth.moments import seconds_in, stamp
from keychain_auth.policy.decide import decide
from keychain_auth.policy.edit import Document
from keychain_auth.policy.temporary import MOST_SECONDS, decide_temporary, describe, left

_SECONDS = 5.0


def grant_document(
    service: str, *, read: bool, write: bool, targets: tuple[str, ...], lasts: str | None, uses: int | None, behind: str
) -> Document:
    """The element of ``temporary_grants`` that the options ask for. Raises UsageError."""
    now = datetime.now(UTC)
    grant: Document = {
        "id": secrets.token_hex(8),
        "service": service,
        "read": read or not write,
        "write": write,
        "granted_at": stamp(now),
    }
    if targets:
        grant["targets"] = [checked_target(target) for target in dict.fromkeys(targets)]
    if lasts is not None:
        grant["expires_at"] = stamp(now + timedelta(seconds=_seconds(lasts)))
    if uses is not None:
        grant["uses"] = uses
    if behind:
        grant["on_behalf_of"] = spellings(behind)[0]
    return grant


def uses_now(places: Places) -> dict[str, int] | None:
    """How often each grant was used, as a running daemon knows it; None if none can be asked."""
    try:
        used: dict[str, int] = admin.ask("uses", socket=places.agent_socket, timeout=_SECONDS)
    except KeychainAuthError:
        return None
    return used


def standing_in_the_way(
    entry: Entry, request: Request, used: dict[str, int] | None, behind: str | None = None
) -> Denial | None:
    """What the entry, or its grants that end, would say no with; None if the request would be granted now.

    ``behind``: the program that stands behind it, "" for nobody; None: any that would be let in.
    """
    decision = decide(entry, request)
    if not isinstance(decision, Denial):
        return None
    refusals = []
    for agent in ["", *agents_of(entry, request.service)] if behind is None else [behind]:
        requester = Requester(Program(agent, "")) if agent else None
        found = decide_temporary(entry, request, decision, now=time.time(), used=used or {}, requester=requester)
        if not isinstance(found, Denial):
            return None
        refusals.append(found)
    return next((refusal for refusal in refusals if refusal.grant), refusals[0])


def agents_of(entry: Entry, service: str) -> list[str]:
    """Behind whom there are grants that end for ``service``."""
    return sorted({grant.behind for grant in entry.temporary if grant.service == service and grant.behind})


def told(entry: Entry, used: dict[str, int] | None) -> list[str]:
    """What the entry's grants that end allow, and what is left of each: a line for each."""
    now = time.time()
    return [
        f"{describe(grant)}: {left(grant, now=now, used=None if used is None else used.get(grant.id, 0))}"
        for grant in entry.temporary
    ]


def described(entry: Entry, used: dict[str, int] | None) -> list[dict[str, Any]]:
    """The same as plain data; ``used`` and ``left`` are null where nobody knows, or where uses are not counted."""
    return [
        {
            "id": grant.id,
            "service": grant.service,
            "read": grant.read,
            "write": grant.write,
            "targets": None if grant.targets is None else sorted(grant.targets),
            "expires_at": grant.expires_text or None,
            "uses": grant.uses,
            "used": None if used is None else used.get(grant.id, 0),
            "left": None if used is None or grant.uses is None else max(0, grant.uses - used.get(grant.id, 0)),
            "on_behalf_of": grant.behind or None,
            "in_words": line,
        }
        for grant, line in zip(entry.temporary, told(entry, used), strict=True)
    ]


def _seconds(lasts: str) -> int:
    try:
        return seconds_in(lasts, MOST_SECONDS)
    except ValueError:
        raise UsageError(
            f"{lasts} is no length of time of at most a year", hint="say 90s, 10m, 8h, 7d, or 1h30m"
        ) from None
