"""A program that asks right now, as a person decides about it: facts with their standing, and the choices. Pure.

Contract:
* Each fact says how it is known. ``verified``: the kernel, a hash or a signature says so, and the daemon looks again
  when the program is let in. ``asked``: these are the words of the request, and just that would be carried out.
  ``claimed``: somebody says so who could lie; it is for orientation only.
* A choice never gives more than it says. A new version of a program that is registered would get that program's grants
  whatever the choice: so it can only be renewed, or not.
* A choice never gives what a person could overlook: who asks chooses names and their number, so what would be given
  has to fit on a screen, in words in which no name passes for more than one.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

import msgspec

from keychain_auth.errors import printable, quoted
from keychain_auth.policy.launching import as_typed
from keychain_auth.policy.pending import PendingEntry

_SEARCHING = frozenset(("search", "check"))
_MOST_SHOWN = 600  # characters: what stands in the part of a small terminal (80 by 24) that nobody has to scroll


class Choice(Enum):
    """What a person can answer: the key, and what it does."""

    ONCE = ("o", "once", "what it asked for, one time, within ten minutes")
    TEN_MINUTES = ("t", "10 minutes", "what it asked for, for ten minutes")
    SERVICE = ("s", "this service", "to do what it asked for in this service, for good")
    GOOD = ("g", "for good", "to read, write and search this service, for good")
    NEVER = ("n", "never", "nothing: it is known from now on, has no permission, and asks no more")
    NOT_NOW = ("d", "not now", "no answer to this; it may ask again in ten minutes")

    @property
    def key(self) -> str:
        """What is typed."""
        return self.value[0]

    @property
    def label(self) -> str:
        """In a word or two."""
        return self.value[1]

    def means(self, asked: Asked) -> str:
        """In a sentence."""
        if self is Choice.GOOD and asked.entry.helper is not None:
            return f"to stand behind {asked.entry.helper.path}, and be given what that may have"
        return self.value[2]


_NAMED = (Choice.ONCE, Choice.TEN_MINUTES)  # these give what was asked for by name, the others a service


class Fact(NamedTuple):
    """``standing``: "verified", "asked" or "claimed"."""

    name: str
    text: str
    standing: str


class Permission(NamedTuple):
    """What the wishes for one service come to. ``exact``: the names that were asked for, None if not all are names."""

    service: str
    read: bool
    write: bool
    search: bool
    exact: tuple[str, ...] | None
    requests: int


class Looked(msgspec.Struct, frozen=True):
    """What the command line found out about the file. ``package``: who installed it, and whether its digest fits.
    ``signer``: whose signature it carries. ``grants``: what its path has already, as lines; None if it is not known.
    ``problem``: why the file is not the one that asks."""

    package: str = ""
    package_fits: bool = False
    signer: str = ""
    signer_trusted: bool = False
    grants: tuple[str, ...] | None = None
    problem: str = ""


class Asked(msgspec.Struct, frozen=True):
    """One entry of the daemon's list of those who wait."""

    id: str
    entry: PendingEntry
    grade: str
    since: str
    seconds_left: int
    connections: int
    wants: tuple[dict[str, Any], ...]
    parents: tuple[dict[str, Any], ...]


def asked_from(document: dict[str, Any]) -> Asked:
    """From an element of the daemon's answer. Raises msgspec.ValidationError."""
    own = {name: document.get(name) for name in ("id", "grade", "since", "seconds_left", "connections")}
    lists = {"wants": document.get("wants", []), "parents": document.get("parents", [])}
    entry = {name: document[name] for name in PendingEntry.__struct_fields__ if document.get(name) is not None}
    return msgspec.convert({**own, **lists, "entry": entry}, Asked)


def facts(asked: Asked, looked: Looked) -> list[Fact]:
    """Everything there is to know, the most important first."""
    entry = asked.entry
    found = [
        Fact("program", entry.path, "verified"),
        Fact("wants", _shown(asked), "asked"),
        Fact("hash", entry.hash, "verified"),
        Fact("grade", asked.grade, "verified"),
    ]
    if entry.interpreter is not None:
        found.insert(1, Fact("run by", entry.interpreter.path, "verified"))
    if entry.helper is not None:
        found.insert(1, Fact("behind", f"{entry.helper.path}, which asks on its behalf", "verified"))
    if looked.problem:
        found.append(Fact("but", looked.problem, "verified"))
    if looked.grants is not None:
        grants = "; ".join(looked.grants) or "no permission"
        found.append(Fact("is a new version of", f"a registered program, which has: {grants}", "verified"))
    if looked.package:
        fits = "which lists this very content" if looked.package_fits else "but others than root could change it"
        found.append(Fact("package", f"{looked.package}, {fits}", "verified" if looked.package_fits else "claimed"))
    else:
        found.append(Fact("package", "none that this machine knows", "verified"))
    untrusted = looked.signer and not looked.signer_trusted
    found.append(Fact("signer", looked.signer or "not signed", "claimed" if untrusted else "verified"))
    found.append(Fact("user", f"{entry.user}, pid {entry.pid}", "verified"))
    found.append(Fact("arguments", as_typed(entry.command_line), "claimed"))
    named = ((one.get("executable") or one.get("name") or "?", one.get("pid")) for one in asked.parents)
    chain = " < ".join(f"{name} ({pid})" for name, pid in named)
    found.append(Fact("started by", chain or "nobody who is still there", "claimed"))
    more = f", with {asked.connections} connections" if asked.connections > 1 else ""
    found.append(Fact("waits", f"since {asked.since}{more}, {asked.seconds_left} s more", "verified"))
    if _overlooked(asked, in_full(asked)):
        found.append(Fact("in full", in_full(asked), "asked"))
    return found


def in_full(asked: Asked) -> str:
    """All that it asks for, every name of it."""
    return "; ".join(_in_words(wish) for wish in asked.wants)


def _in_short(asked: Asked) -> str:
    """The same, without the names of secrets: what it would have of each service."""
    return "; ".join(
        f"{' and '.join(word for word, may in (('read', each.read), ('write', each.write)) if may)} "
        f"{quoted(each.service)}: {'any name' if each.exact is None else f'{len(each.exact)} names'}"
        for each in permissions(asked)
    )


def _shown(asked: Asked) -> str:
    full, short = in_full(asked), _in_short(asked)
    if not _overlooked(asked, full):
        return full
    return f"{short}, see «in full»" if not _overlooked(asked, short) else "more than can be looked over, see «in full»"


def _overlooked(asked: Asked, wanted: str) -> bool:
    """Is this too long to be seen at once, together with who asks?"""
    entry = asked.entry
    who = [entry.path, *(each.path for each in (entry.interpreter, entry.helper) if each is not None)]
    return sum(len(printable(text)) for text in (*who, wanted)) > _MOST_SHOWN


def permissions(asked: Asked) -> list[Permission]:
    """What the wishes come to, service by service, in the order in which they were asked."""
    by_service: dict[str, list[dict[str, Any]]] = {}
    for wish in asked.wants:
        by_service.setdefault(str(wish["service"]), []).append(wish)
    return [_permission(service, wishes) for service, wishes in by_service.items()]


def why_not(choice: Choice, asked: Asked, looked: Looked) -> str:
    """Why this choice cannot be taken here; "" if it can."""
    if choice is Choice.NOT_NOW:
        return ""
    if looked.problem:
        return looked.problem
    if choice is not Choice.NEVER and _overlooked(asked, in_full(asked) if choice in _NAMED else _in_short(asked)):
        return "it asks for too much to be looked over here: keychain-auth approve, with --read or --write"
    if asked.entry.helper is not None:
        return "" if choice is Choice.GOOD else "who stands behind a helper is let in for good, or not"
    if looked.grants is not None:
        return "" if choice is Choice.GOOD else "it would get the grants of the version before, for good"
    if choice in _NAMED and any(each.search for each in permissions(asked)):
        return "a search, a check or a prefix cannot be allowed for a time"
    return ""


def choices(asked: Asked, looked: Looked) -> list[Choice]:
    """Those that can be taken."""
    return [choice for choice in Choice if not why_not(choice, asked, looked)]


def _permission(service: str, wishes: list[dict[str, Any]]) -> Permission:
    actions = {str(wish["action"]) for wish in wishes}
    names = [str(target) for wish in wishes for target in wish.get("targets", ())]
    search = bool(actions & _SEARCHING) or any(wish.get("match") == "prefix" for wish in wishes)
    return Permission(
        service,
        read=bool(actions & {"read", "search", "check"}),
        write=bool(actions & {"write", "delete", "check"}),
        search=search,
        exact=None if search else tuple(dict.fromkeys(names)),
        requests=len(wishes),
    )


def _in_words(wish: dict[str, Any]) -> str:
    names = ", ".join(quoted(str(target)) for target in wish.get("targets", ()))
    how = "everything that begins with " if wish.get("match") == "prefix" else ""
    return f"{wish.get('action')} {quoted(str(wish.get('service')))} {how}{names}".rstrip()
