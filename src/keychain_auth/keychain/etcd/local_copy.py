"""What a cluster answered lately, sealed, for when no member of it answers.

Contract:
* It holds what this daemon itself was answered or stored, in memory only, for at most ``seconds``, and no more than
  ``most_bytes``; what was learned first goes first. A value is sealed and bound to its service, target and revision.
* What the daemon saw removed or replaced is never answered again: an answer counts only if none with a higher revision
  came before it, and if no change of ours began since it was asked for.
* What is due (``Value.until``) is not answered, and not said to be gone either: another machine may have renewed it.
* ``read`` and its sisters answer all that was asked for, or None. That a target does not exist is answered only if the
  cluster said so. The targets of one answer may have been seen at different moments; its age is that of the oldest.
* ``clear`` forgets everything and the key. What is being asked for at that moment is not learned.

What it does not promise: that anything in it is still so. Names lie in memory as they are, as in the vault's index.
Nothing of it is on a disk, so a daemon that starts while the cluster is gone has none: what lies on a disk could be put
back there by others after its deletion was seen, and only the cluster could tell.

Used by several threads at the same time.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from keychain_auth.crypto.aead import Aead
from keychain_auth.crypto.kdf import joined, subkey
from keychain_auth.keychain.base import Recalled
from keychain_auth.keychain.budget import Budget
from keychain_auth.keychain.etcd.sealing import Name, Value
from keychain_auth.model import Item

_SERVICES = 1024
_OVERHEAD = 200  # bytes of memory for each thing that is kept, beside what is in it


class Ticket(NamedTuple):
    """Taken before the cluster is asked, and shown with what it answered."""

    service: str
    epoch: int
    generation: int
    moment: Moment


class Moment(NamedTuple):
    """By two clocks: one that nobody sets, and one that does not stand still while the machine sleeps."""

    steady: float
    wall: float


class _Kept(NamedTuple):
    """``blob``: None: there is no such target. ``names``: of the whole service, where it is no target."""

    revision: int
    moment: Moment
    size: int
    blob: bytes | None = None
    until: float | None = None
    names: Mapping[str, Name] | None = None


class _Service:
    """``floor``: the highest revision that an answer had. ``generation``: how many changes of ours began or ended."""

    __slots__ = ("floor", "generation", "targets")

    def __init__(self) -> None:
        self.floor = 0
        self.generation = 0
        self.targets: set[str] = set()


class LocalCopy:
    """``key``: the fleet's. Nothing is sealed with it, but with a new one made of it each time that all is forgotten.
    ``seconds``: 0: nothing is kept.
    """

    def __init__(
        self,
        key: bytes,
        *,
        seconds: float,
        most_bytes: int,
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self.seconds = seconds
        self._most_bytes = most_bytes
        self._steady = steady
        self._wall = wall
        self._lock = threading.Lock()
        self._epoch = 0
        self._cluster = 0
        self._clear()

    # --- learning ---------------------------------------------------------------------------------

    def ticket(self, service: str) -> Ticket:
        """For a question that is about to be asked."""
        with self._lock:
            return Ticket(service, self._epoch, self._of(service).generation, self._now())

    def learn(
        self, ticket: Ticket, cluster: int, revision: int, asked: Iterable[str], found: Mapping[str, Value]
    ) -> None:
        """``asked`` were looked up, as they were at ``revision``; what is not ``found`` does not exist."""
        with self._lock:
            if self._is_news(ticket, cluster, revision):
                listed = self._kept.get((ticket.service, None))
                for target in asked:
                    self._keep(ticket.service, target, revision, ticket.moment, found.get(target))
                    if (
                        listed is not None
                        and listed.names is not None
                        and (target in listed.names) != (target in found)
                    ):
                        self._drop(ticket.service, None)
                self._make_room()

    def learn_names(self, ticket: Ticket, cluster: int, revision: int, names: Mapping[str, Name]) -> None:
        """These are all the names of the service at ``revision``. ``names`` must not change any more."""
        with self._lock:
            if not self._is_news(ticket, cluster, revision):
                return
            service = ticket.service
            for target in list(self._of(service).targets):
                if (self._kept[service, target].blob is not None) != (target in names):
                    self._drop(service, target)
            before = self._kept.get((service, None))
            known = before is not None and before.names is names
            size = before.size if before is not None and known else sum(map(_name_size, names.values())) + _OVERHEAD
            self._put(service, None, _Kept(revision, ticket.moment, size, names=names))
            self._make_room()

    def changing(self, service: str, targets: Iterable[str]) -> None:
        """A change of ours begins, or ended in whatever way: what is known of these is not known any more."""
        with self._lock:
            self._of(service).generation += 1
            for target in [*targets, None]:
                self._drop(service, target)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._clear()

    # --- telling ----------------------------------------------------------------------------------

    def read(
        self, service: str, targets: Sequence[str], attributes: Mapping[str, str], budget: Budget
    ) -> Recalled | None:
        """The targets, as far as they exist, if that is known of all of them. Raises AnswerExceedsLimit."""
        with self._lock:
            return self._read(service, targets, attributes, budget, self._now())

    def read_prefix(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str], budget: Budget
    ) -> Recalled | None:
        """The same for all targets below the prefixes."""
        with self._lock:
            listed = self._listed(service, prefixes, attributes)
            if listed is None:
                return None
            names, moment = listed
            return self._read(service, [name.target for name in names], attributes, budget, moment)

    def search(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str], budget: Budget
    ) -> Recalled | None:
        """The names below the prefixes, if all names are known."""
        with self._lock:
            listed = self._listed(service, prefixes or ("",), attributes)
            if listed is None:
                return None
            names, moment = listed
            for name in names:
                budget.take(0, name.target, name.attributes)
            return Recalled([Item(name.target, None, name.attributes) for name in names], self._age(moment))

    def size(self) -> tuple[int, int]:
        """How many values are kept, and the bytes of everything."""
        with self._lock:
            return sum(kept.blob is not None for kept in self._kept.values()), self._bytes

    # --- inside, with the lock held ---------------------------------------------------------------

    def _read(
        self, service: str, targets: Sequence[str], attributes: Mapping[str, str], budget: Budget, oldest: Moment
    ) -> Recalled | None:
        found: list[Item] = []
        for target in targets:
            kept = self._fresh(service, target)
            if kept is None:
                return None
            oldest = min(oldest, kept.moment)
            if kept.blob is None:
                continue
            value = msgspec.msgpack.decode(
                self._aead.open(kept.blob, _context(service, target, kept.revision)), type=Value
            )
            if attributes.items() <= (value.attributes or {}).items():
                found.append(Item(target, value.value, value.attributes))
                budget.spend(found)
        return Recalled(found, self._age(oldest))

    def _listed(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]
    ) -> tuple[list[Name], Moment] | None:
        kept = self._fresh(service, None)
        if kept is None or kept.names is None:
            return None
        beginnings, now, found = tuple(prefixes), self._time(kept.moment), []
        for target in sorted(kept.names):
            name = kept.names[target]
            if target.startswith(beginnings) and attributes.items() <= (name.attributes or {}).items():
                if name.until is not None and now >= name.until:
                    return None
                found.append(name)
        return found, kept.moment

    def _fresh(self, service: str, target: str | None) -> _Kept | None:
        """What is known, neither too old nor due."""
        kept = self._kept.get((service, target))
        if kept is None:
            return None
        due = kept.until is not None and self._time(kept.moment) >= kept.until
        if due or self._age(kept.moment) > self.seconds:
            self._drop(service, target)
            return None
        return kept

    def _is_news(self, ticket: Ticket, cluster: int, revision: int) -> bool:
        if not self.seconds or ticket.epoch != self._epoch:
            return False
        if cluster != self._cluster:
            known, self._cluster = self._cluster, cluster
            if known:  # another cluster, or one that was restored: revisions begin anew
                self._clear()
                return False
        about = self._of(ticket.service)
        if ticket.generation != about.generation or revision < about.floor:
            return False
        about.floor = revision
        return True

    def _keep(self, service: str, target: str, revision: int, moment: Moment, value: Value | None) -> None:
        if value is None:
            self._put(service, target, _Kept(revision, moment, len(target) + _OVERHEAD))
            return
        blob = self._aead.seal(msgspec.msgpack.encode(value), _context(service, target, revision))
        size = len(blob) + len(target) + _OVERHEAD
        self._put(service, target, _Kept(revision, moment, size, blob, value.until))

    def _put(self, service: str, target: str | None, kept: _Kept) -> None:
        self._drop(service, target)
        self._kept[service, target] = kept
        self._bytes += kept.size
        if target is not None:
            self._of(service).targets.add(target)

    def _drop(self, service: str, target: str | None) -> None:
        kept = self._kept.pop((service, target), None)
        if kept is not None:
            self._bytes -= kept.size
            if target is not None:
                self._of(service).targets.discard(target)

    def _make_room(self) -> None:
        while self._kept:
            (service, target), kept = next(iter(self._kept.items()))
            if self._bytes <= self._most_bytes and self._age(kept.moment) <= self.seconds:
                break
            self._drop(service, target)

    def _of(self, service: str) -> _Service:
        found = self._services.get(service)
        if found is None:
            if len(self._services) >= _SERVICES:
                self._clear()
            found = self._services[service] = _Service()
        return found

    def _clear(self) -> None:
        self._epoch += 1
        self._aead = Aead(subkey(self._key, os.urandom(32), "etcd 1 local copy"))
        self._kept: OrderedDict[tuple[str, str | None], _Kept] = OrderedDict()
        self._services: dict[str, _Service] = {}
        self._bytes = 0

    def _now(self) -> Moment:
        return Moment(self._steady(), self._wall())

    def _time(self, moment: Moment) -> float:
        """Of the wall, as it must be by now, whatever was done to that clock since."""
        return max(self._wall(), moment.wall + self._steady() - moment.steady)

    def _age(self, moment: Moment) -> float:
        return max(0.0, self._steady() - moment.steady, self._wall() - moment.wall)


def _name_size(name: Name) -> int:
    attributes = name.attributes or {}
    return _OVERHEAD + len(name.target) + sum(len(key) + len(text) for key, text in attributes.items())


def _context(service: str, target: str, revision: int) -> bytes:
    names = [name.encode("utf-8", "surrogatepass") for name in (service, target)]
    return joined([b"local copy", *names, str(revision).encode()])
