"""The names of one collection, remembered for a short time.

Contract:
* Names and attributes only, never a value.
* Asked for are the names of the services that somebody uses: what else lies in the collection costs nothing. Only who
  wants to know all services (``refresh`` without one) has every item looked at.
* What another program changes is noticed by the signals of the service. A service that sends none is asked anew after
  ``seconds``.
* ``refresh`` after an answer of the service: what was changed before that answer is known then, because the bus
  delivers what one sender sends in order.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from keychain_auth.keychain.secret_service.naming import own_attributes, place_of
from keychain_auth.secret_service.bus import Signal
from keychain_auth.secret_service.service import Facts, Service

_CREATED_OR_CHANGED = ("ItemCreated", "ItemChanged")
_COLLECTION = "org.freedesktop.Secret.Collection"
_ITEM = "org.freedesktop.Secret.Item"


class Names:
    """Belongs to one connection: with a new one, begin anew."""

    def __init__(self, service: Service, collection: str, seconds: float) -> None:
        self._service = service
        self._collection = collection
        self._seconds = seconds
        self._loaded: dict[
            str | None, float
        ] = {}  # services whose names are all here, and since when; None: all of them
        self._facts: dict[str, Facts] = {}
        self._places: dict[str, dict[str, list[str]]] = {}
        self._stale: set[str] = set()

    def refresh(self, service: str | None) -> None:
        """Take in what changed, and have the names of ``service`` here; None: of all services.

        Raises service.Gone, NoSuchObject.
        """
        for signal in self._service.changes():
            self._note(signal)
        if self._stale:
            self._look_again(sorted(self._stale))
            self._stale.clear()
        if self._is_fresh(None) or (service is not None and self._is_fresh(service)):
            return
        if service is None:
            self._replace(self._service.facts(self._service.items(self._collection)))
            self._loaded = {None: time.monotonic()}
        else:
            [paths] = self._service.search(self._collection, [{"service": service}])
            gone = {path for known in self._places.get(service, {}).values() for path in known} - set(paths)
            self._look_again([*paths, *gone])
            self._loaded[service] = time.monotonic()

    def _is_fresh(self, service: str | None) -> bool:
        since = self._loaded.get(service)
        return since is not None and time.monotonic() - since <= self._seconds

    def forget(self) -> None:
        """Ask the service anew the next time."""
        self._loaded.clear()

    def changed(self, paths: Iterable[str]) -> None:
        """We changed these ourselves: look at them the next time, whether or not there is a signal."""
        self._stale.update(paths)

    def services(self) -> list[str]:
        """Sorted."""
        return sorted(self._places)

    def targets(self, service: str) -> list[str]:
        """Not sorted."""
        return list(self._places.get(service, ()))

    def paths(self, service: str, target: str) -> list[str]:
        """All items of that place; other programs make more than one at times."""
        return list(self._places.get(service, {}).get(target, ()))

    def facts(self, path: str) -> Facts:
        """Of an item that ``paths`` named."""
        return self._facts[path]

    def attributes(self, path: str) -> dict[str, str]:
        """Those that a client may see."""
        return own_attributes(self._facts[path].attributes)

    def learn(self, paths: Sequence[str]) -> None:
        """Look at these items now: a search has found them, or what is known of them may be old."""
        self._look_again(paths)

    def _note(self, signal: Signal) -> None:
        if signal.path == self._collection and signal.interface == _COLLECTION and signal.body:
            if signal.member in _CREATED_OR_CHANGED or signal.member == "ItemDeleted":
                self._stale.add(str(signal.body[0]))
        elif signal.member == "PropertiesChanged" and signal.body and signal.body[0] == _ITEM:
            self._stale.add(signal.path)

    def _look_again(self, paths: Sequence[str]) -> None:
        inside = [path for path in paths if path.startswith(f"{self._collection}/")]
        found = self._service.facts(inside)
        kept = {path: facts for path, facts in self._facts.items() if path not in inside}
        self._replace({**kept, **found})

    def _replace(self, facts: dict[str, Facts]) -> None:
        self._facts = facts
        self._places = {}
        for path, each in facts.items():
            place = place_of(each.attributes)
            if place is not None:
                self._places.setdefault(place[0], {}).setdefault(place[1], []).append(path)


__all__ = ["Names"]
