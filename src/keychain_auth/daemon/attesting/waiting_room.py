"""Who may wait while it is found out which program it is: few strangers, fewer of one process, and of one user.

A connection that waits holds descriptors and one of the places of ``limits.connections``, and cannot be told anything
yet. So strangers get only some of the places, whatever they bring: ten of them with 900 MiB to hash leave all others
to programs that are registered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from keychain_auth.daemon.shares import Share


class RoomFull(Exception):
    """No place to wait in. The text says which limit was reached, for the log."""


class WaitingRoom:
    """``places`` in all, ``places_per_process`` of them for one process, ``share`` for one user."""

    def __init__(self, places: int, places_per_process: int, share: Share | None = None) -> None:
        self._places = places
        self._places_per_process = places_per_process
        self._taken: Counter[int] = Counter()
        self._share = Share() if share is None else share
        self.waiting = 0

    @contextmanager
    def place(self, pid: int, uid: int) -> Iterator[None]:
        """Wait inside. Raises RoomFull."""
        if self._taken[pid] >= self._places_per_process:
            raise RoomFull(f"{self._places_per_process} connections of this process are being verified already")
        if self._share.is_full(uid):
            raise RoomFull("as many connections of this user as one may have are being verified already")
        if self.waiting >= self._places:
            raise RoomFull(f"{self._places} connections of programs that are not known yet are being verified already")
        self._taken[pid] += 1
        self._share.take(uid)
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1
            self._share.give_back(uid)
            self._taken[pid] -= 1
            if not self._taken[pid]:
                del self._taken[pid]
