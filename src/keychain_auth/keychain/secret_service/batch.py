"""A batch of changes to a Secret Service, and its undoing.

A Secret Service knows no transactions: each item is changed by a call of its own. So a batch is made step by step from
a record of what was there, and if a step fails, all of them are put back.

What it does not promise: that nobody saw the batch half done, nor that it can be put back once the service is gone or
locked in the middle of it, nor that a crash of this process in the middle is mended. An item that was removed and put
back is a new item with the old name, value and attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from keychain_auth.keychain.secret_service.names import Names
from keychain_auth.keychain.secret_service.naming import changed_attributes, label, new_attributes, own_attributes
from keychain_auth.secret_service.service import TEXT, Facts, Secret, Service


class Undoable(NamedTuple):
    """An item as it was."""

    path: str
    facts: Facts
    secret: Secret


class Open(Protocol):
    """Where the batch works."""

    service: Service
    collection: str
    names: Names


class Batch:
    """``step`` gives time for one more call. ``before``: the items of each target; ``newest``: which of them counts."""

    def __init__(
        self,
        step: Callable[[], Open],
        service: str,
        before: Mapping[str, Sequence[Undoable]],
        newest: Mapping[str, str],
    ) -> None:
        self.service = service
        self._step = step
        self._before = before
        self._newest = newest
        self.touched: list[str] = []

    @property
    def untouched(self) -> bool:
        """Nothing was changed, for sure."""
        return not self.touched

    def write(self, values: Mapping[str, bytes], attributes: Mapping[str, str]) -> None:
        """Give each target its value: all items of it, or a new one."""
        for target, value in values.items():
            self.touched.append(target)
            items = self._before[target]
            for item in items:
                self._put(item.path, item.facts.attributes, changed_attributes(item.facts.attributes, attributes))
                at = self._step()
                at.service.set_secret(item.path, Secret(value, TEXT))
                at.names.changed([item.path])
            if not items:
                at = self._step()
                named = new_attributes(self.service, target, attributes)
                path = at.service.create(at.collection, label(self.service, target), named, Secret(value, TEXT))
                at.names.changed([path])

    def delete(self, attributes: Mapping[str, str]) -> None:
        """Remove the targets that have these attributes, with all their items."""
        for target, items in self._before.items():
            counts = [item for item in items if item.path == self._newest.get(target)]
            if not counts or not attributes.items() <= own_attributes(counts[0].facts.attributes).items():
                continue
            self.touched.append(target)
            for item in items:
                at = self._step()
                at.service.delete(item.path)
                at.names.changed([item.path])

    def undo(self, present: Callable[[str], list[str]]) -> None:
        """Put back what was there. ``present``: the items of a target now, whoever made them.

        The last step may or may not have been made (its answer did not come), so nothing is taken for granted.
        """
        for target in reversed(self.touched):
            left = set(present(target))
            for item in self._before[target]:
                at = self._step()
                if item.path in left:
                    at.service.set_secret(item.path, item.secret)
                    at.service.set_attributes(item.path, item.facts.attributes)
                else:
                    at.service.create(at.collection, item.facts.label, item.facts.attributes, item.secret)
                at.names.forget()
            for path in left - {item.path for item in self._before[target]}:
                at = self._step()
                at.service.delete(path)
                at.names.forget()

    def _put(self, path: str, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        if dict(old) != dict(new):
            self._step().service.set_attributes(path, new)
