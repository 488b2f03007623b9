"""Reads and searches in a cluster: what is asked, and what the answers mean.

Contract: as ``keychain.base``; each method blocks, until its deadline (of ``time.monotonic``) at most. Beyond that

* Every answer is what the cluster holds at one revision, no older than the question (linearizable reads), however
  many requests it took.
* A value that is due is not there, also while the cluster still holds it: a new leader gives every lease its whole time
  anew.
* What was answered is told to the local copy (``local_copy``).

What it does not promise: that machines agree when a value is due better than their clocks do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.budget import ANSWER_BYTES, Budget
from keychain_auth.keychain.etcd import known as knowledge
from keychain_auth.keychain.etcd import requests
from keychain_auth.keychain.etcd.asking import Asking
from keychain_auth.keychain.etcd.cluster import Refused
from keychain_auth.keychain.etcd.known import NEW, Known, Memory
from keychain_auth.keychain.etcd.local_copy import LocalCopy, Ticket
from keychain_auth.keychain.etcd.sealing import Name, Seal, Value
from keychain_auth.model import Item

T = TypeVar("T")
_AT_ONCE = 16  # values in one request: 4 MiB, if each has as much as the protocol allows
_COUNTED_AT_ONCE = 63  # services in one request
_OUT_OF_RANGE = 11  # grpc: the revision was compacted away


class Looking:
    """May be used by several threads at the same time."""

    def __init__(self, asking: Asking, seal: Seal, memory: Memory, copy: LocalCopy) -> None:
        self.answer_bytes = ANSWER_BYTES
        self._copy = copy
        self._asking = asking
        self._seal = seal
        self._memory = memory

    def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str], deadline: float) -> list[Item]:
        """See Keychain."""
        return _again(lambda: self._read(self._copy.ticket(service), targets, attributes, 0, deadline), deadline)

    def read_prefix(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str], deadline: float
    ) -> list[Item]:
        """See Keychain."""

        def once() -> list[Item]:
            ticket = self._copy.ticket(service)
            known, revision = self.look(service, deadline, ticket)
            found = under(known.names or {}, prefixes, attributes)
            budget = Budget(self.answer_bytes)
            for name in found if len(found) > 1 else ():
                budget.take(name.size, name.target, name.attributes)
            items = self._read(ticket, [name.target for name in found], {}, revision, deadline)
            there = {item.target for item in items}
            if any(name.target not in there and name.until is None for name in found):
                raise KeychainError("the cluster holds a name without a value", hint="keychain-auth set SERVICE TARGET")
            return items

        return _again(once, deadline)

    def search(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str], deadline: float
    ) -> list[Item]:
        """See Keychain."""
        known, _ = self.look(service, deadline, self._copy.ticket(service))
        budget = Budget(self.answer_bytes)
        found = []
        for name in under(known.names or {}, prefixes or ("",), attributes):
            budget.take(0, name.target, name.attributes)
            found.append(Item(name.target, None, name.attributes))
        return found

    def services(self, deadline: float) -> list[str]:
        """See Keychain."""

        def once() -> list[str]:
            answer = self._asking.transaction([], [requests.below(self._seal.heads)], [], deadline)
            names = [self._seal.open_head(pair.key, pair.value).service for pair in answer.ranges[0].pairs]
            found = []
            for some in _chunks(names, _COUNTED_AT_ONCE):
                counts = [requests.count(self._seal.names_of(name), answer.revision) for name in some]
                ranges = self._asking.transaction([], counts, [], deadline).ranges
                found += [name for name, counted in zip(some, ranges, strict=True) if counted.count]
            return sorted(found)

        return _again(once, deadline)

    def probe(self, deadline: float) -> None:
        """Ask for the least there is. Raises KeychainError."""
        self._asking.transaction([], [requests.get(self._seal.check_key)], [], deadline)

    def look(self, service: str, deadline: float, ticket: Ticket | None = None) -> tuple[Known, int]:
        """The names of the service now, and the revision of that. ``ticket``: the local copy learns them too."""
        known = self._memory.get(service) or NEW
        known = known if known.names is not None else NEW
        head, below = self._seal.head_key(service), self._seal.names_of(service)
        answer = self._asking.transaction(
            [requests.unchanged(head, known.revision)], [], [requests.get(head), requests.below(below)], deadline
        )
        if answer.succeeded and known.revision and answer.cluster != known.cluster:  # restored: revisions begin anew
            self._memory.forget(service)
            return self.look(service, deadline, ticket)
        if not answer.succeeded:
            held, listed = answer.ranges
            names = [self._seal.open_name(pair.key, pair.value) for pair in listed.pairs]
            known = knowledge.head(self._seal, head, answer, held)
            known = known._replace(names={name.target: name for name in names})
            self._memory.remember(service, known)
        if ticket is not None and known.names is not None:
            self._copy.learn_names(ticket, answer.cluster, answer.revision, known.names)
        return known, answer.revision

    def _read(
        self, ticket: Ticket, targets: Sequence[str], attributes: Mapping[str, str], revision: int, deadline: float
    ) -> list[Item]:
        """``revision``: what the cluster held then; 0 is now."""
        service, budget = ticket.service, Budget(self.answer_bytes)
        found: list[Item] = []
        for some in _chunks(targets, _AT_ONCE):
            keys = [self._seal.value_key(service, target) for target in some]
            answer = self._asking.transaction([], [requests.get(key, revision) for key in keys], [], deadline)
            revision = revision or answer.revision
            values: dict[str, Value] = {}
            for target, key, held in zip(some, keys, answer.ranges, strict=True):
                for pair in held.pairs:
                    value = values[target] = self._seal.open_value(key, pair.value)
                    if _fits(value, attributes):
                        found.append(Item(target, value.value, value.attributes))
                        budget.spend(found)
            self._copy.learn(ticket, answer.cluster, revision, some, values)
        return found


def under(names: Mapping[str, Name], prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Name]:
    """Those that begin with one of ``prefixes``, have the attributes, and are not due; sorted."""
    beginnings = tuple(prefixes)
    return [
        names[target] for target in sorted(names) if target.startswith(beginnings) and _fits(names[target], attributes)
    ]


def has(held: Name | Value, attributes: Mapping[str, str]) -> bool:
    """Has it every pair of ``attributes``?"""
    return attributes.items() <= (held.attributes or {}).items()


def _fits(held: Name | Value, attributes: Mapping[str, str]) -> bool:
    """The same, and it is not due."""
    return has(held, attributes) and (held.until is None or time.time() < held.until)


def _again(look: Callable[[], list[T]], deadline: float) -> list[T]:
    """An answer of several requests is one of a revision; if that is compacted away meanwhile, it is looked anew."""
    while True:
        try:
            return look()
        except Refused as error:
            if error.code != _OUT_OF_RANGE or time.monotonic() >= deadline:
                raise


def _chunks(whole: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (whole[start : start + size] for start in range(0, len(whole), size))
