"""Grants that end: after a time, after so many uses, or both. Pure: the clock and the counts are arguments.

Contract:
* A temporary grant (``temporary_grants`` of an entry) allows exact reads of one service, or exact writes and deletes,
  or both, of the named targets or of any. It adds to the entry's other grants, and is looked at only where those do not
  allow the service. It allows no search and no prefix: those need ``can_search`` and the service itself.
* What limits the entry (``allowed_targets``, a grade that the service asks for) limits its temporary grants too.
* A use is a request that was granted by it, whatever it finds. Uses are counted before anything is given out, by the
  grant's ``id``: who grants anew gives a new id.
* With ``on_behalf_of`` it counts only for requests that this program stands behind (``behalf``).
* What has ended is refused with ``grant_ended``, not as if it had never been.
"""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote

from keychain_auth import reasons
from keychain_auth.model import Denial, Entry, Request, Requester, Temporary
from keychain_auth.moments import span
from keychain_auth.policy.decide import within_targets

FIELD = "temporary_grants"
MOST_SECONDS = 366 * 24 * 3600

_FIELDS = ("allowed_read_services", "allowed_write_services")
_ACTIONS = ("read", "write", "delete")


def decide_temporary(
    entry: Entry, request: Request, denial: Denial, *, now: float, used: Mapping[str, int], requester: Requester | None
) -> Temporary | Denial:
    """The grant that allows what ``denial`` says the entry itself does not; else the denial that is to be told.

    ``now``: seconds since the epoch. ``used``: how often each grant was used already.
    """
    if denial.field not in _FIELDS or request.action not in _ACTIONS or request.match == "prefix":
        return denial
    named = [grant for grant in entry.temporary if _is_for(grant, request, requester)]
    if not named:
        return denial
    outside = within_targets(entry, request)
    if isinstance(outside, Denial):
        return outside
    alive = [grant for grant in named if not ended(grant, now=now, used=used.get(grant.id, 0))]
    for grant in alive:
        if grant.targets is None or grant.targets.issuperset(request.targets):
            return grant
    if alive:
        lacking = next(target for target in request.targets if target not in (alive[0].targets or ()))
        there = ", ".join(sorted(alive[0].targets or ()))
        return Denial(reasons.TARGET_NOT_ALLOWED, FIELD, lacking, there, entry, grant=alive[0].id)
    last = named[-1]
    why = ended(last, now=now, used=used.get(last.id, 0))
    return Denial(reasons.GRANT_ENDED, FIELD, request.service, why, entry, grant=last.id)


def ended(grant: Temporary, *, now: float, used: int) -> str:
    """Why the grant is over, "" while it is not."""
    if grant.expires_at is not None and now >= grant.expires_at:
        return f"a grant that ended at {grant.expires_text}"
    if grant.uses is not None and used >= grant.uses:
        return f"a grant for {grant.uses} use{'' if grant.uses == 1 else 's'}, all of them used"
    return ""


def left(grant: Temporary, *, now: float, used: int | None) -> str:
    """What is left of it, in words. ``used``: None if nobody knows."""
    if over := ended(grant, now=now, used=used or 0):
        return over.removeprefix("a grant ")
    said = []
    if grant.expires_at is not None:
        said.append(f"until {grant.expires_text} (for {span(grant.expires_at - now)} more)")
    if grant.uses is not None:
        counted = f"of {grant.uses} uses, how many are left only a running daemon knows"
        said.append(counted if used is None else f"{grant.uses - used} of {grant.uses} uses left")
    return ", ".join(said)


def describe(grant: Temporary) -> str:
    """What it allows, in words."""
    actions = " and ".join(word for word, may in (("read", grant.read), ("write", grant.write)) if may)
    targets = "" if grant.targets is None else f" {', '.join(sorted(grant.targets))}"
    behind = f" on behalf of {grant.behind}" if grant.behind else ""
    return f"may {actions} {grant.service}{targets}{behind}"


def again(grant: Temporary, path: str) -> str:
    """The command that grants the same once more."""
    words = ["keychain-auth", "authorize", quote(path), quote(grant.service)]
    words += [word for word, may in (("--read", grant.read), ("--write", grant.write)) if may]
    words += [f"--target {quote(target)}" for target in sorted(grant.targets or ())]
    if grant.seconds:
        words.append(f"--for {span(grant.seconds).replace(' ', '')}")
    if grant.uses is not None:
        words.append(f"--uses {grant.uses}")
    if grant.behind:
        words.append(f"--behind {quote(grant.behind)}")
    return " ".join(words)


def _is_for(grant: Temporary, request: Request, requester: Requester | None) -> bool:
    allows = grant.read if request.action == "read" else grant.write
    behind = not grant.behind or (requester is not None and grant.behind == requester.program.path)
    return allows and grant.service == request.service and behind
