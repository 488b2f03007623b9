"""Connections that were accepted and not yet looked at: every process has its turn.

The kernel's queue of a listening socket is first come, first served: behind a thousand connections of one program
everybody waits until each of them was looked at (0.3 ms each). Taking them out of it costs a tenth of that. Here they
wait by process, and are taken one of each process in turn: who opens one connection waits for one of everybody else's.

What it does not promise: fairness between programs. One that starts a hundred processes has a hundred turns.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

from keychain_auth.platform.base import Channel


class Doorway:
    """Holds ``most`` connections; beyond that they are better left in the kernel's queue."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting = 0
        self._by_process: OrderedDict[int, deque[Channel]] = OrderedDict()

    def __len__(self) -> int:
        return self._waiting

    @property
    def full(self) -> bool:
        """Whether no more should be accepted for now."""
        return self._waiting >= self._most

    def put(self, pid: int, channel: Channel) -> None:
        """Let it wait: behind the others of its process, and that behind the other processes."""
        self._waiting += 1
        self._by_process.setdefault(pid, deque()).append(channel)

    def take_all(self) -> Iterator[Channel]:
        """All of them, out of it."""
        while (waiting := self.take()) is not None:
            yield waiting[1]

    def take(self) -> tuple[int, Channel] | None:
        """Whose turn it is, None if nobody waits."""
        if not self._waiting:
            return None
        self._waiting -= 1
        pid, channels = self._by_process.popitem(last=False)
        channel = channels.popleft()
        if channels:
            self._by_process[pid] = channels
        return pid, channel
