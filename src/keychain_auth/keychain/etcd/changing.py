"""Changes in a cluster: one transaction each, also when machines meet and answers are lost.

Contract: as ``keychain.base``; each method blocks, until its deadline (of ``time.monotonic``) at most. Beyond that

* Every change writes the head of its service, and is one transaction that compares the head with the one it was made
  from. A change of somebody else in between is noticed, and ours is made anew from what there is then.
* A request whose answer was lost may be sent again: the head tells by a mark whether it was carried out. A head is
  never removed, so that an old request that comes late finds another head, and does nothing.
* What is stored for a lifetime lies under a lease, which the cluster granted before; nobody keeps it alive. Every write
  has a lease of its own, so writing again renews, and a batch goes together. When nothing was changed, it is revoked.

What it does not promise: more targets in one change than a transaction of the cluster takes (``operations``), and
knowledge: when no member answers after a change was sent, the error says that it may have been made.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.etcd import known as knowledge
from keychain_auth.keychain.etcd import requests
from keychain_auth.keychain.etcd.asking import Asking, NotMade
from keychain_auth.keychain.etcd.cluster import Refused, Unavailable
from keychain_auth.keychain.etcd.known import Known, Memory
from keychain_auth.keychain.etcd.local_copy import LocalCopy
from keychain_auth.keychain.etcd.looking import Looking, has
from keychain_auth.keychain.etcd.requests import Operation
from keychain_auth.keychain.etcd.sealing import Head, Name, Seal, Value
from keychain_auth.keychain.lifetimes import Lifetimes
from keychain_auth.keychain.names import encoded, require_names

_MARKS = 32  # how many changes of others there may be between a lost answer and the question what became of it
_MARK_BYTES = 12
Change = Callable[[Known], tuple[list[Operation], Known]]
"""What is to be done to a service as it is, and what it is then."""


class Changing:
    """``operations``: how many a transaction may have (etcd's --max-txn-ops). For one thread at a time."""

    def __init__(
        self,
        asking: Asking,
        seal: Seal,
        memory: Memory,
        copy: LocalCopy,
        looking: Looking,
        lifetimes: Lifetimes,
        operations: int,
    ) -> None:
        self._asking = asking
        self._copy = copy
        self._seal = seal
        self._memory = memory
        self._looking = looking
        self._lifetimes = lifetimes
        self._most_targets = (operations - 1) // 2

    def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], deadline: float
    ) -> None:
        """See Keychain."""
        values = dict(entries)
        require_names(service, values, attributes)
        own = dict(attributes) or None
        sizes = [len(content) for content in encoded(values.values())]
        lifetime = self._lifetimes.of(service)
        # Before the lease begins: so a value is due before the cluster removes it, and never the other way round.
        until = None if lifetime is None else time.time() + lifetime
        names = [Name(target, own, size, until) for target, size in zip(values, sizes, strict=True)]
        if not names:
            return
        self._require_room(len(names))
        known = self._memory.get(service) or self._held(service, deadline)
        lease = 0 if lifetime is None else self._asking.lease(lifetime, deadline)
        stored = {target: Value(value, own, until) for target, value in values.items()}
        puts = []
        for name in names:
            for key, plain in (
                (self._seal.name_key(service, name.target), name),
                (self._seal.value_key(service, name.target), stored[name.target]),
            ):
                puts.append(requests.put(key, self._seal.seal(key, plain), lease))

        def change(known: Known) -> tuple[list[Operation], Known]:
            if known.names is not None:
                known = known._replace(names=known.names | {name.target: name for name in names})
            return puts, known

        try:
            self._noted(service, stored, known, change, deadline)
        except KeychainError as error:
            if lease and _is_made_by_nobody(error):
                self._asking.revoke(lease, deadline)
            raise

    def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str], deadline: float) -> None:
        """See Keychain."""

        def change(known: Known) -> tuple[list[Operation], Known]:
            names = known.names or {}
            gone = {target for target in targets if target in names and has(names[target], attributes)}
            self._require_room(len(gone))
            keys = [where(service, target) for target in gone for where in (self._seal.name_key, self._seal.value_key)]
            left = {target: name for target, name in names.items() if target not in gone}
            return [requests.remove(key) for key in keys], known._replace(names=left)

        self._noted(service, dict.fromkeys(targets), None, change, deadline)

    def _noted(
        self,
        service: str,
        becomes: Mapping[str, Value | None],
        known: Known | None,
        change: Change,
        deadline: float,
    ) -> None:
        """``_change``, and the local copy knows of it. ``becomes``: by target; None: it is gone, or is what it was."""
        self._copy.changing(service, becomes)
        ticket, done = self._copy.ticket(service), None
        try:
            done = self._change(service, known, change, deadline)
        finally:
            if done is None:
                self._copy.changing(service, becomes)
        if done is not None:
            stored = {target: value for target, value in becomes.items() if value is not None}
            self._copy.learn(ticket, done.cluster, done.revision, stored, stored)
            if done.names is not None:
                self._copy.learn_names(ticket, done.cluster, done.revision, done.names)

    def _change(
        self,
        service: str,
        known: Known | None,
        change: Change,
        deadline: float,
    ) -> Known | None:
        """One transaction, anew from what there is until nobody else came in between. None: look first.

        Nothing is sent if ``change`` finds nothing to do. The service as it is then; None if that is not known.
        """
        mark, key = os.urandom(_MARK_BYTES), self._seal.head_key(service)
        looks = known is None
        while True:
            if known is None:
                known, _ = self._looking.look(service, deadline)
            operations, becomes = change(known)
            if not operations:
                return None
            marks = (mark, *known.marks)[:_MARKS]
            operations = [requests.put(key, self._seal.seal(key, Head(service, marks))), *operations]
            unchanged = requests.unchanged(key, known.revision)
            answer = self._asking.transaction([unchanged], operations, [requests.get(key)], deadline)
            if answer.succeeded:
                now = Known(answer.revision, known.version + 1, answer.cluster, marks, becomes.names)
                self._memory.remember(service, now)
                return now
            held = knowledge.head(self._seal, key, answer, answer.ranges[0])
            self._memory.forget(service)
            if mark in held.marks:  # an earlier sending of it was carried out, and only its answer was lost
                return None
            if answer.repeated and held.version - known.version >= _MARKS:
                raise KeychainError("so many others changed this service that what became of this change is not known")
            if time.monotonic() >= deadline:
                raise NotMade("others changed this service all the time; nothing was changed")
            known = None if looks else held

    def _held(self, service: str, deadline: float) -> Known:
        """The service as it is, without its names."""
        key = self._seal.head_key(service)
        answer = self._asking.transaction([], [requests.get(key)], [], deadline)
        return knowledge.head(self._seal, key, answer, answer.ranges[0])

    def _require_room(self, targets: int) -> None:
        if targets > self._most_targets:
            raise NotMade(
                f"{targets} targets are more than one transaction of the cluster takes ({self._most_targets})",
                hint="ask for fewer at once, or raise etcd's --max-txn-ops, and operations in daemon.toml with it",
            )


def _is_made_by_nobody(error: KeychainError) -> bool:
    """For sure? Else its lease must stay: what may lie under it would go with it."""
    return isinstance(error, NotMade) or (isinstance(error, Unavailable | Refused) and not error.sent)
