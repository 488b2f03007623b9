"""A service's secrets from one keychain into another, some at a time.

    look at both ──► copy what is missing ──► read it back ──► (on request, later) remove what both have alike

Contract:
* What is in the destination is never overwritten unless ``replace`` says so; it is reported as differing.
* A copy counts when it was read back, value and attributes, and is equal.
* ``remove`` takes from the source only what the destination has alike at that moment.
* Each step stands alone: who stops in the middle, or is stopped, begins again and finds the rest. A step that fails
  raises KeychainError, and what the steps before did stays.
* ``record`` is called before anything is changed; if it raises, nothing is.

What it does not promise: that a program which writes the same target in the same milliseconds is not overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from keychain_auth.errors import AnswerExceedsLimit, KeychainError, ValueNotText
from keychain_auth.keychain.base import Keychain
from keychain_auth.model import Item

_AT_ONCE = 50
Record = Callable[[Sequence[str]], None]


class Step(msgspec.Struct):
    """What one step did, or with ``dry_run`` would have done: targets. ``next``: continue after this one; "" at the
    end. ``left``: how many are still to be looked at. ``routed``: where programs get the service from, if the caller
    knows."""

    copied: list[str] = []
    alike: list[str] = []
    differing: list[str] = []
    unreadable: list[str] = []
    removed: list[str] = []
    next: str = ""
    left: int = 0
    routed: str = ""


class Migration:
    """Of the whole of ``service``. ``program``: who asked, for keychains that keep a history."""

    def __init__(self, service: str, source: Keychain, destination: Keychain, program: str, record: Record) -> None:
        self._service = service
        self._source = source
        self._destination = destination
        self._program = program
        self._record = record

    async def copy(self, after: str, *, replace: bool, dry_run: bool) -> Step:
        """The next targets after ``after``. Raises KeychainError."""
        step, theirs, ours = await self._look(after)
        wanted = []
        for target, item in theirs.items():
            if target not in ours or (replace and ours[target] != item):
                wanted.append(item)
                step.copied.append(target)
            else:
                (step.alike if ours[target] == item else step.differing).append(target)
        if wanted and not dry_run:
            self._record(step.copied)
            await self._write(wanted)
        return step

    async def remove(self, after: str) -> Step:
        """Take from the source what the destination has alike, after ``after``. Raises KeychainError."""
        step, theirs, ours = await self._look(after)
        for target, item in theirs.items():
            (step.removed if ours.get(target) == item else step.differing).append(target)
        if step.removed:
            self._record(step.removed)
            await self._source.delete(self._service, step.removed, {})
        return step

    async def _look(self, after: str) -> tuple[Step, dict[str, Item], dict[str, Item]]:
        """The next targets of the source, and what both keychains have under these names."""
        names = [item.target for item in await self._source.search(self._service, (), {})]
        rest = [name for name in names if name > after]
        some = rest[:_AT_ONCE]
        unreadable: list[str] = []
        while True:
            try:
                theirs = await self._source.read(self._service, some, {})
                ours = await self._destination.read(self._service, some, {})
                break
            except AnswerExceedsLimit:  # one alone is never too much
                some = some[: max(1, len(some) // 2)]
            except ValueNotText:
                if len(some) == 1:
                    theirs, ours, unreadable = [], [], some
                    break
                some = some[: max(1, len(some) // 2)]
        left = len(rest) - len(some)
        step = Step(unreadable=unreadable, next=some[-1] if left else "", left=left)
        return step, {item.target: item for item in theirs}, {item.target: item for item in ours}

    async def _write(self, items: Sequence[Item]) -> None:
        """One batch for all that have the same attributes; then all of it is read back."""
        groups: dict[tuple[tuple[str, str], ...], list[Item]] = {}
        for item in items:
            groups.setdefault(tuple(sorted((item.attributes or {}).items())), []).append(item)
        for attributes, group in groups.items():
            entries = [(item.target, item.value or "") for item in group]
            await self._destination.write(self._service, entries, dict(attributes), self._program)
        stored = await self._destination.read(self._service, [item.target for item in items], {})
        if stored != list(items):
            names = ", ".join(sorted({item.target for item in items} - {item.target for item in stored}))
            raise KeychainError(
                f"what was copied does not read back as it was ({names or 'another value'}); nothing was removed",
                hint="is another program writing this service? then try again",
            )
