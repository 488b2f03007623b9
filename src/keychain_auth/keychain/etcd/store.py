"""Services and targets in a cluster of etcd: what is asked, and what the answers mean.

Contract: as ``keychain.base``; each method blocks, until its deadline (of ``time.monotonic``) at most. Beyond that

* Every answer is what the cluster holds at one revision, no older than the question (linearizable reads), however
  many requests it took.
* Every change writes the head of its service, and is one transaction that compares the head with the one it was made
  from. A change of somebody else in between is noticed, and ours is made anew from what there is then.
* A request whose answer was lost may be sent again: the head tells by a mark whether it was carried out. A head is
  never removed, so that an old request that comes late finds another head, and does nothing.
* Names are remembered, and used only while the cluster says in the same request that the head is still the same.

What it does not promise: more targets in one change than a transaction of the cluster takes (``operations``), and
knowledge: when no member answers after a change was sent, the error says that it may have been made.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.budget import ANSWER_BYTES, Budget
from keychain_auth.keychain.etcd import requests
from keychain_auth.keychain.etcd.cluster import Cluster, Refused
from keychain_auth.keychain.etcd.requests import Answer, Held, Operation
from keychain_auth.keychain.etcd.sealing import Head, Name, Seal, Value
from keychain_auth.keychain.names import encoded, require_names
from keychain_auth.model import Item

T = TypeVar("T")
_MARKS = 32  # how many changes of others there may be between a lost answer and the question what became of it
_MARK_BYTES = 12
_AT_ONCE = 16  # values in one request: 4 MiB, if each has as much as the protocol allows
_SERVICES = 64  # whose names are remembered
_OUT_OF_RANGE = 11  # grpc: the revision was compacted away
_TOO_LARGE = (3, 8)  # grpc: invalid argument (etcd's limit), resource exhausted (the limit of a message)


class Known(NamedTuple):
    """A service at the moment of one change: ``revision`` is of its head, 0 if there never was one."""

    revision: int
    version: int
    cluster: int
    marks: tuple[bytes, ...]
    names: dict[str, Name] | None  # None: not looked at


_NEW = Known(0, 0, 0, (), {})


class EtcdStore:
    """``operations``: how many a transaction may have (etcd's --max-txn-ops)."""

    def __init__(self, cluster: Cluster, seal: Seal, operations: int) -> None:
        self.answer_bytes = ANSWER_BYTES
        self._cluster = cluster
        self._seal = seal
        self._most_targets = (operations - 1) // 2
        self._known: dict[str, Known] = {}
        self._key_is_right = False
        self._lock = threading.Lock()

    # --- looking ----------------------------------------------------------------------------------

    def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str], deadline: float) -> list[Item]:
        """See Keychain."""
        self._require_key(deadline)
        return _again(lambda: self._read(service, targets, attributes, 0, deadline), deadline)

    def read_prefix(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str], deadline: float
    ) -> list[Item]:
        """See Keychain."""

        def once() -> list[Item]:
            known, revision = self._look(service, deadline)
            found = _under(known, prefixes, attributes)
            budget = Budget(self.answer_bytes)
            for name in found if len(found) > 1 else ():
                budget.take(name.size, name.target, name.attributes)
            items = self._read(service, [name.target for name in found], {}, revision, deadline)
            if len(items) != len(found):
                raise KeychainError("the cluster holds a name without a value", hint="keychain-auth set SERVICE TARGET")
            return items

        self._require_key(deadline)
        return _again(once, deadline)

    def search(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str], deadline: float
    ) -> list[Item]:
        """See Keychain."""
        self._require_key(deadline)
        known, _ = self._look(service, deadline)
        budget = Budget(self.answer_bytes)
        found = []
        for name in _under(known, prefixes or ("",), attributes):
            budget.take(0, name.target, name.attributes)
            found.append(Item(name.target, None, name.attributes))
        return found

    def services(self, deadline: float) -> list[str]:
        """See Keychain."""

        def once() -> list[str]:
            answer = self._ask([], [requests.below(self._seal.heads)], [], deadline)
            names = [self._seal.open_head(pair.key, pair.value).service for pair in answer.ranges[0].pairs]
            found = []
            for some in _chunks(names, self._most_targets):
                counts = [requests.count(self._seal.names_of(name), answer.revision) for name in some]
                ranges = self._ask([], counts, [], deadline).ranges
                found += [name for name, counted in zip(some, ranges, strict=True) if counted.count]
            return sorted(found)

        self._require_key(deadline)
        return _again(once, deadline)

    def probe(self, deadline: float) -> None:
        """Ask for the least there is. Raises KeychainError."""
        self._require_key(deadline)
        self._ask([], [requests.get(self._seal.check_key)], [], deadline)

    def _read(
        self, service: str, targets: Sequence[str], attributes: Mapping[str, str], revision: int, deadline: float
    ) -> list[Item]:
        """``revision``: what the cluster held then; 0 is now."""
        budget = Budget(self.answer_bytes)
        found: list[Item] = []
        for some in _chunks(targets, _AT_ONCE):
            keys = [self._seal.value_key(service, target) for target in some]
            answer = self._ask([], [requests.get(key, revision) for key in keys], [], deadline)
            revision = revision or answer.revision
            for target, key, held in zip(some, keys, answer.ranges, strict=True):
                for pair in held.pairs:
                    value = self._seal.open_value(key, pair.value)
                    if _fits(value, attributes):
                        found.append(Item(target, value.value, value.attributes))
                        _spend(budget, found)
        return found

    def _look(self, service: str, deadline: float) -> tuple[Known, int]:
        """The names of the service now, and the revision of that."""
        known = self._known.get(service, _NEW)
        known = known if known.names is not None else _NEW
        head, below = self._seal.head_key(service), self._seal.names_of(service)
        answer = self._ask(
            [requests.unchanged(head, known.revision)], [], [requests.get(head), requests.below(below)], deadline
        )
        if answer.succeeded and known.revision and answer.cluster != known.cluster:  # restored: revisions begin anew
            self._known.pop(service, None)
            return self._look(service, deadline)
        if not answer.succeeded:
            held, listed = answer.ranges
            names = [self._seal.open_name(pair.key, pair.value) for pair in listed.pairs]
            known = self._head(head, answer, held)._replace(names={name.target: name for name in names})
            self._remember(service, known)
        return known, answer.revision

    # --- changing ---------------------------------------------------------------------------------

    def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], deadline: float
    ) -> None:
        """See Keychain."""
        values = dict(entries)
        require_names(service, values, attributes)
        own = dict(attributes) or None
        sizes = [len(content) for content in encoded(values.values())]
        names = [Name(target, own, size) for target, size in zip(values, sizes, strict=True)]
        self._require_room(len(names))
        self._require_key(deadline)
        puts = []
        for name in names:
            for key, plain in (
                (self._seal.name_key(service, name.target), name),
                (self._seal.value_key(service, name.target), Value(values[name.target], own)),
            ):
                puts.append(requests.put(key, self._seal.seal(key, plain)))

        def change(known: Known) -> tuple[list[Operation], Known]:
            if known.names is not None:
                known = known._replace(names=known.names | {name.target: name for name in names})
            return puts, known

        if names:
            self._change(service, self._known.get(service) or self._held(service, deadline), change, deadline)

    def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str], deadline: float) -> None:
        """See Keychain."""
        self._require_key(deadline)

        def change(known: Known) -> tuple[list[Operation], Known]:
            names = known.names or {}
            gone = {target for target in targets if target in names and _fits(names[target], attributes)}
            self._require_room(len(gone))
            keys = [where(service, target) for target in gone for where in (self._seal.name_key, self._seal.value_key)]
            left = {target: name for target, name in names.items() if target not in gone}
            return [requests.remove(key) for key in keys], known._replace(names=left)

        self._change(service, None, change, deadline)

    def _change(
        self,
        service: str,
        known: Known | None,
        change: Callable[[Known], tuple[list[Operation], Known]],
        deadline: float,
    ) -> None:
        """One transaction, anew from what there is until nobody else came in between. None: look first.

        Nothing is sent if ``change`` finds nothing to do.
        """
        mark, key = os.urandom(_MARK_BYTES), self._seal.head_key(service)
        looks = known is None
        while True:
            if known is None:
                known, _ = self._look(service, deadline)
            operations, becomes = change(known)
            if not operations:
                return
            marks = (mark, *known.marks)[:_MARKS]
            operations = [requests.put(key, self._seal.seal(key, Head(service, marks))), *operations]
            answer = self._ask([requests.unchanged(key, known.revision)], operations, [requests.get(key)], deadline)
            if answer.succeeded:
                now = Known(answer.revision, known.version + 1, answer.cluster, marks, becomes.names)
                self._remember(service, now)
                return
            held = self._head(key, answer, answer.ranges[0])
            self._known.pop(service, None)
            if mark in held.marks:  # an earlier sending of it was carried out, and only its answer was lost
                return
            if answer.repeated and held.version - known.version >= _MARKS:
                raise KeychainError("so many others changed this service that what became of this change is not known")
            if time.monotonic() >= deadline:
                raise KeychainError("others changed this service all the time; nothing was changed")
            known = None if looks else held

    def _held(self, service: str, deadline: float) -> Known:
        """The service as it is, without its names."""
        key = self._seal.head_key(service)
        answer = self._ask([], [requests.get(key)], [], deadline)
        return self._head(key, answer, answer.ranges[0])

    def _head(self, key: bytes, answer: Answer, held: Held) -> Known:
        for pair in held.pairs:
            marks = self._seal.open_head(key, pair.value).marks
            return Known(pair.mod_revision, pair.version, answer.cluster, marks, None)
        return _NEW

    def _remember(self, service: str, known: Known) -> None:
        with self._lock:
            self._known.pop(service, None)
            self._known[service] = known
            while len(self._known) > _SERVICES:
                del self._known[next(iter(self._known))]

    def _require_room(self, targets: int) -> None:
        if targets > self._most_targets:
            raise KeychainError(
                f"{targets} targets are more than one transaction of the cluster takes ({self._most_targets})",
                hint="ask for fewer at once, or raise etcd's --max-txn-ops, and operations in daemon.toml with it",
            )

    # --- asking -----------------------------------------------------------------------------------

    def _require_key(self, deadline: float) -> None:
        """Two keys below one prefix would be two keychains that do not see each other: that is refused."""
        if self._key_is_right:
            return
        key = self._seal.check_key
        put, get = requests.put(key, self._seal.check()), requests.get(key)
        answer = self._ask([requests.unchanged(key, 0)], [put], [get], deadline)
        if not answer.succeeded and not any(self._seal.is_ours(pair.value) for pair in answer.ranges[0].pairs):
            raise KeychainError(
                "what the cluster holds below this prefix is of another key", hint="edit daemon.toml: key_file, prefix"
            )
        self._key_is_right = True

    def _ask(
        self,
        compares: Iterable[Operation],
        if_true: Iterable[Operation],
        if_false: Iterable[Operation],
        deadline: float,
    ) -> Answer:
        body = requests.transaction(compares, if_true, if_false)
        try:
            told, repeated = self._cluster.call("/v3/kv/txn", body, deadline)
        except Refused as error:
            if error.code in _TOO_LARGE and "larg" in str(error):
                raise KeychainError(
                    "this change is larger than the cluster takes",
                    hint="write fewer at once, or raise etcd's --max-request-bytes",
                ) from None
            raise
        return requests.answer(told, repeated=repeated)


def _again(look: Callable[[], list[T]], deadline: float) -> list[T]:
    """An answer of several requests is one of a revision; if that is compacted away meanwhile, it is looked anew."""
    while True:
        try:
            return look()
        except Refused as error:
            if error.code != _OUT_OF_RANGE or time.monotonic() >= deadline:
                raise


def _under(known: Known, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Name]:
    names, beginnings = known.names or {}, tuple(prefixes)
    return [
        names[target] for target in sorted(names) if target.startswith(beginnings) and _fits(names[target], attributes)
    ]


def _fits(held: Name | Value, attributes: Mapping[str, str]) -> bool:
    return attributes.items() <= (held.attributes or {}).items()


def _spend(budget: Budget, found: Sequence[Item]) -> None:
    """Count the newest; one alone is never too much, so the first counts with the second."""
    for item in found[-2:] if len(found) == 2 else found[-1:] if len(found) > 2 else ():
        budget.take(len((item.value or "").encode()), item.target, item.attributes)


def _chunks(whole: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (whole[start : start + size] for start in range(0, len(whole), size))
