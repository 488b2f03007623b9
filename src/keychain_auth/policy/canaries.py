"""Canaries: secrets that nobody has a reason to read, and what becomes of who does. Pure.

Contract:
* An exact read, write or delete of a canary's name fires, whether a secret of that name is there or not. A prefix read
  or delete fires if a canary is among what it found. A search does not: it shows names, and a bait must be seen.
* Who fired is held: by the path and by the hash of the program (of the script, if there is one). So neither a new file
  at that path nor the same bytes at another one are served, until a person releases it. It is held for the user who
  ran it: where one daemon serves many, none can have another one's programs held.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from keychain_auth.model import Item, Program, Request

_FIRES = frozenset(("read", "write", "delete"))


class Alarm(msgspec.Struct, frozen=True):
    """A program reached for a canary. ``when``: ISO 8601 in UTC. ``uid``: of the user who ran it."""

    path: str
    sha256: str
    service: str
    target: str
    when: str
    uid: int


class Canaries(msgspec.Struct, frozen=True):
    """All of them. ``names``: the targets of each service. ``alarms``: who is held, the oldest first."""

    names: dict[str, frozenset[str]] = {}
    alarms: tuple[Alarm, ...] = ()

    def touched(self, request: Request) -> str:
        """The first canary that the request names, "" for none."""
        names = self.names.get(request.service)
        if names is None or request.match != "exact" or request.action not in _FIRES:
            return ""
        return next((target for target in request.targets if target in names), "")

    def found(self, request: Request, items: Iterable[Item]) -> str:
        """The first canary among what a prefix brought to light, "" for none."""
        names = self.names.get(request.service)
        if names is None or request.match != "prefix" or request.action not in _FIRES:
            return ""
        return next((item.target for item in items if item.target in names), "")

    def holds(self, program: Program, uid: int) -> Alarm | None:
        """Why the program of the user ``uid`` is held; None if it is not."""
        for alarm in self.alarms:
            if alarm.uid == uid and (alarm.path == program.path or alarm.sha256 == program.sha256):
                return alarm
        return None

    def with_name(self, service: str, target: str) -> Canaries:
        """These and one more."""
        names = {**self.names, service: self.names.get(service, frozenset()) | {target}}
        return msgspec.structs.replace(self, names=names)

    def without_name(self, service: str, target: str) -> Canaries:
        """These less one."""
        names = {**self.names, service: self.names.get(service, frozenset()) - {target}}
        return msgspec.structs.replace(self, names={name: left for name, left in names.items() if left})

    def with_alarm(self, alarm: Alarm) -> Canaries:
        """One more is held; the first alarm of a program stays."""
        known = any((one.path, one.sha256, one.uid) == (alarm.path, alarm.sha256, alarm.uid) for one in self.alarms)
        return self if known else msgspec.structs.replace(self, alarms=(*self.alarms, alarm))

    def released(self, path: str) -> Canaries:
        """The program at ``path`` is served again."""
        return msgspec.structs.replace(self, alarms=tuple(alarm for alarm in self.alarms if alarm.path != path))


def encode(canaries: Canaries) -> str:
    """As text, for the vault."""
    return msgspec.json.encode(canaries, order="deterministic").decode()


def decode(text: str) -> Canaries:
    """From such text. Raises ValueError."""
    try:
        return msgspec.json.decode(text, type=Canaries)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError(f"not a list of canaries: {error}") from None
