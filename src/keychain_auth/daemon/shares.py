"""What one user of the machine may have of a daemon that serves all of them, so that nobody crowds the others out.

Contract: of each thing a user has at most so many at a time. What is beyond is refused, and costs nobody else anything.
A daemon of one user has no such bounds: whatever is there is that user's.

What it does not promise: that the daemon's time is divided evenly. Who asks a lot is served a lot; everybody has a turn
between two turns of others. And several users together may have all.
"""

from __future__ import annotations

from collections import Counter

import msgspec

_LOST_LOOKS = 8


class UserSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each user may have at a time: connections, connections of unregistered programs that are being verified,
    connections that wait for a person, stored secrets, and the bytes of these (names, values, attributes)."""

    connections: int = 128
    verifying: int = 16
    waiting: int = 8
    secrets: int = 10_000
    stored_bytes: int = 64 * 1024 * 1024


class Share:
    """How much of one thing each user has. ``most`` of it; None for as much as there is."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._taken: Counter[int] = Counter()

    def is_full(self, uid: int) -> bool:
        """May this user have no more?"""
        return self._most is not None and self._taken[uid] >= self._most

    def take(self, uid: int) -> None:
        """One more."""
        if self._most is not None:
            self._taken[uid] += 1

    def give_back(self, uid: int) -> None:
        """One less."""
        if self._most is not None:
            self._taken[uid] -= 1
            if not self._taken[uid]:
                del self._taken[uid]


class Shares:
    """All of them. ``settings``: None for a daemon of one user. ``lost_looks``: how many of the daemon's threads one
    user's processes may keep waiting for ever."""

    lost_looks: int | None = None

    def __init__(self, settings: UserSettings | None = None) -> None:
        if settings is None:
            self.connections, self.looks, self.verifying, self.waiting = Share(), Share(), Share(), Share()
            return
        self.connections = Share(settings.connections)
        self.looks = Share(max(1, settings.connections // 2))
        self.verifying = Share(settings.verifying)
        self.waiting = Share(settings.waiting)
        self.lost_looks = _LOST_LOOKS
