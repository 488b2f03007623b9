"""Connections that were accepted and not yet looked at: every user has a turn, and of a user every process.

The kernel's queue of a listening socket is first come, first served: behind a thousand connections of one program
everybody waits until each of them was looked at (0.3 ms each). Taking them out of it costs a tenth of that. Here they
wait by user and process, and are taken one of each user in turn, and of that user's processes in turn: who opens one
connection waits for one of each other user's, and for one of each other process of the same user's.

What it does not promise: fairness between programs of a user. One that starts a hundred processes has a hundred turns.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

from keychain_auth.platform.base import Channel

Process = tuple[int, int]
"""Process and user, as the kernel names them for a connection."""


class Doorway:
    """Holds ``most`` connections; beyond that they are better left in the kernel's queue."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting = 0
        self._by_user: OrderedDict[int, OrderedDict[int, deque[Channel]]] = OrderedDict()

    def __len__(self) -> int:
        return self._waiting

    @property
    def full(self) -> bool:
        """Whether no more should be accepted for now."""
        return self._waiting >= self._most

    def put(self, process: Process, channel: Channel) -> None:
        """Let it wait: behind the others of its process, that behind the user's others, and that behind other users."""
        self._waiting += 1
        pid, uid = process
        self._by_user.setdefault(uid, OrderedDict()).setdefault(pid, deque()).append(channel)

    def take_all(self) -> Iterator[Channel]:
        """All of them, out of it."""
        while (waiting := self.take()) is not None:
            yield waiting[1]

    def take(self) -> tuple[Process, Channel] | None:
        """Whose turn it is, None if nobody waits."""
        if not self._waiting:
            return None
        self._waiting -= 1
        uid, processes = self._by_user.popitem(last=False)
        pid, channels = processes.popitem(last=False)
        channel = channels.popleft()
        if channels:
            processes[pid] = channels
        if processes:
            self._by_user[uid] = processes
        return (pid, uid), channel
