"""Programs that this daemon verified at their path, for when their file is removed while they run (``policy.grace``).

Contract: only programs whose entry has ``grace_seconds``, only by the file that runs (device and inode) with the hash
that it had, only in this run of the daemon; few, the oldest go first.
"""

from __future__ import annotations

from keychain_auth.identity.facts import PeerFacts
from keychain_auth.model import Denial, Entry, Grade, Identity, Program

_MOST = 256
Place = tuple[int, int]


class Verified:
    """``programs`` are by device and inode."""

    def __init__(self) -> None:
        self.programs: dict[Place, Program] = {}
        self._of_root: set[Place] = set()

    def note(self, facts: PeerFacts, identity: Identity, entry: Entry | Denial) -> None:
        """This identity was found for these facts, and leads to ``entry``."""
        place = _place(facts)
        if identity.retired or not isinstance(entry, Entry) or not entry.grace_seconds:
            return
        if place not in self.programs and len(self.programs) >= _MOST:
            oldest = next(iter(self.programs))
            del self.programs[oldest]
            self._of_root.discard(oldest)
        self.programs[place] = identity.program
        if identity.grade is Grade.SYSTEM:
            self._of_root.add(place)

    def was_of_root(self, facts: PeerFacts) -> bool:
        """Could only root change the file when it was verified? It has no path any more to say so now."""
        return facts.retired and _place(facts) in self._of_root

    def holds(self, identity: Identity, facts: PeerFacts) -> bool:
        """False for a removed file that has not the content any more which was verified."""
        return not identity.retired or self.programs.get(_place(facts)) == identity.program


def _place(facts: PeerFacts) -> Place:
    return facts.executable.key.device, facts.executable.key.inode
