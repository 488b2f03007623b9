"""What is remembered of services: the revision of their heads, and their names.

Contract: it is used only while the cluster says in the same request that the head is still the same. Names that go by
themselves when they are due are not remembered: no head tells that they went.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from keychain_auth.keychain.etcd.requests import Answer, Held
from keychain_auth.keychain.etcd.sealing import Name, Seal

_SERVICES = 64


class Known(NamedTuple):
    """A service at the moment of one change: ``revision`` is of its head, 0 if there never was one."""

    revision: int
    version: int
    cluster: int
    marks: tuple[bytes, ...]
    names: dict[str, Name] | None  # None: not looked at


NEW = Known(0, 0, 0, (), {})


def head(seal: Seal, key: bytes, answer: Answer, held: Held) -> Known:
    """What the head ``key`` tells, as ``held`` of ``answer`` has it; no names."""
    for pair in held.pairs:
        marks = seal.open_head(key, pair.value).marks
        return Known(pair.mod_revision, pair.version, answer.cluster, marks, None)
    return NEW


class Memory:
    """Of so many services. May be used by several threads at the same time."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._lock = threading.Lock()

    def get(self, service: str) -> Known | None:
        """What is known of ``service``."""
        return self._known.get(service)

    def forget(self, service: str) -> None:
        """It is asked for anew."""
        self._known.pop(service, None)

    def remember(self, service: str, known: Known) -> None:
        """The services that were looked at last stay."""
        if known.names and any(name.until is not None for name in known.names.values()):
            known = known._replace(names=None)
        with self._lock:
            self._known.pop(service, None)
            self._known[service] = known
            while len(self._known) > _SERVICES:
                del self._known[next(iter(self._known))]
