"""What a service must hold, as far as its only writer can know.

Contract: ``possible`` lists every content that the protocol's promises allow. What was answered with success is in all
of them. A change whose answer never came is there whole or not at all, and of several sent together the first ones; so
a lost connection adds possibilities, and the next look at the whole service leaves one, or shows that something is
lost.

A change that was answered with ``internal_error`` did not happen as long as that daemon lives. If it is killed before
another change succeeds, the failed one may be there after all, whole (``keychain.base``): such *ghosts* are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

Content = dict[str, str]


class Change(NamedTuple):
    """A write of ``values``, or a deletion of ``targets``."""

    values: Mapping[str, str] = {}
    targets: Sequence[str] = ()

    def on(self, content: Content) -> Content:
        """``content`` after it."""
        changed = {target: value for target, value in content.items() if target not in self.targets}
        changed.update(self.values)
        return changed


class Lost(AssertionError):
    """The daemon holds something that it must not, or does not hold what it must."""


class Model:
    """One service."""

    def __init__(self) -> None:
        self.possible: list[Content] = [{}]
        self.failed: list[Change] = []
        self.resolved = 0  # looks that had more than one possibility
        self.ghosts = 0

    @property
    def content(self) -> Content:
        """The one content that is possible. Only after a look."""
        assert len(self.possible) == 1
        return self.possible[0]

    def done(self, change: Change) -> None:
        """Success was answered."""
        self.possible = [change.on(content) for content in self.possible]
        self.failed = []

    def refused(self, change: Change) -> None:
        """An error was answered: it did not happen."""
        self.failed.append(change)

    def unanswered(self, changes: Sequence[Change]) -> None:
        """The connection ended before these were answered."""
        for content in list(self.possible):
            after = content
            for change in changes:
                after = change.on(after)
                if after not in self.possible:
                    self.possible.append(after)

    def seen(self, found: Content, daemon_died: bool) -> None:
        """The whole service was read. Raises Lost."""
        self.resolved += len(self.possible) > 1
        if found not in self.possible:
            if not (daemon_died and any(found == change.on(each) for each in self.possible for change in self.failed)):
                raise Lost(self._what_is_wrong(found))
            self.ghosts += 1
        self.possible = [found]
        self.failed = []

    def _what_is_wrong(self, found: Content) -> str:
        nearest = min(self.possible, key=lambda content: len(set(content.items()) ^ set(found.items())))
        missing = sorted(target for target in nearest if target not in found)
        extra = sorted(target for target in found if target not in nearest)
        other = sorted(target for target in found if target in nearest and found[target] != nearest[target])
        return f"{len(self.possible)} contents were possible; missing {missing}, too many {extra}, other value {other}"
