"""May this entry do this? Pure, and every "no" says why.

Contract (protocol, section "Who may do what"). All-or-nothing: one target outside refuses the whole request, before
the keychain is touched.
"""

from __future__ import annotations

from keychain_auth import reasons
from keychain_auth.model import Decision, Denial, Entry, Grant, Request


def decide(entry: Entry, request: Request) -> Decision:
    """Grant or Denial for a request that is well formed."""
    return _BY_ACTION[request.action](entry, request)


def _read(entry: Entry, request: Request) -> Decision:
    if request.service not in entry.read_services:
        return _service_denial(entry, "allowed_read_services", request.service, entry.read_services)
    if request.match == "prefix" and not entry.can_search:
        return _search_denial(entry, "a prefix read")
    return Grant(entry) if entry.allowed_targets is None else within_targets(entry, request)


def _search(entry: Entry, request: Request) -> Decision:
    if not entry.can_search:
        return _search_denial(entry, "a search")
    if request.service not in entry.read_services:
        return _service_denial(entry, "allowed_read_services", request.service, entry.read_services)
    return within_targets(entry, request)


def _write(entry: Entry, request: Request) -> Decision:
    if request.service not in entry.write_services:
        return _service_denial(entry, "allowed_write_services", request.service, entry.write_services)
    return within_targets(entry, request)


def _delete(entry: Entry, request: Request) -> Decision:
    if request.service not in entry.write_services:
        return _service_denial(entry, "allowed_write_services", request.service, entry.write_services)
    if request.match == "prefix" and not entry.can_search:
        return _search_denial(entry, "a prefix delete")
    return within_targets(entry, request)


def _check(entry: Entry, request: Request) -> Decision:
    """Full access to the service: read, write and search. A program may only ask about itself."""
    if request.targets:
        return Denial(
            reasons.ACTION_NOT_IN_POLICY, "targets", "asking about another program", "only about itself", entry
        )
    if request.service not in entry.read_services:
        return _service_denial(entry, "allowed_read_services", request.service, entry.read_services)
    if request.service not in entry.write_services:
        return _service_denial(entry, "allowed_write_services", request.service, entry.write_services)
    if not entry.can_search:
        return _search_denial(entry, "full access")
    return Grant(entry)


def decide_stale(entry: Entry, request: Request) -> Decision:
    """May a granted request be answered by what its keychain said lately, while that does not answer?

    The reason of the denial is that of the failure: the keychain failed, and this is why nothing else is answered.
    """
    wanted = f"a {request.action} while the keychain does not answer"
    if request.action not in ("read", "search"):
        return Denial(reasons.INTERNAL_ERROR, "action", wanted, "only read and search", entry)
    return (
        Grant(entry)
        if entry.allow_stale_reads
        else Denial(reasons.INTERNAL_ERROR, "allow_stale_reads", wanted, "false", entry)
    )


_BY_ACTION = {"read": _read, "search": _search, "write": _write, "delete": _delete, "check": _check}


def within_targets(entry: Entry, request: Request) -> Decision:
    """Do the entry's limits on targets allow it? Each target, or each prefix, must itself begin with an allowed prefix.

    ``prod`` is outside of ``prod:``: what it would match is more than what was allowed.
    """
    allowed = entry.allowed_targets
    if allowed is not None:
        if not allowed:
            return Denial(reasons.TARGET_NOT_ALLOWED, "allowed_targets", "any target", "an empty list", entry)
        for target in request.targets:
            if not target.startswith(allowed):
                return Denial(reasons.TARGET_NOT_ALLOWED, "allowed_targets", target, ", ".join(allowed), entry)
    return Grant(entry)


def search_prefixes(entry: Entry, request: Request) -> tuple[str, ...]:
    """The prefixes that a granted search looks under; empty means the whole service.

    A search without targets by an entry that limits its targets sees what lies inside the limit.
    """
    if request.targets or entry.allowed_targets is None:
        return request.targets
    return entry.allowed_targets


def _service_denial(entry: Entry, field: str, service: str, named: frozenset[str]) -> Denial:
    if service in entry.withheld:
        wanted, found = f"grade {entry.withheld[service]}", f"grade {entry.known_as}"
        return Denial(reasons.IDENTITY_NOT_VERIFIED, "services", wanted, found, entry)
    return Denial(reasons.SERVICE_NOT_ALLOWED, field, service, ", ".join(sorted(named)) or "nothing", entry)


def _search_denial(entry: Entry, what: str) -> Denial:
    return Denial(reasons.ACTION_NOT_IN_POLICY, "can_search", what, "false", entry)
