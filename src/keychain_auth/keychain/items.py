"""A keychain out of single items, as operating systems keep them: one call adds, finds, lists or removes one item.

Contract: as ``keychain.base``, but blocking, and

* a batch is no transaction. What is there is read first, then it is changed item by item; if a step fails, the steps
  before are undone, and an error says if that failed. Others may see a batch half done, and a crash of this process in
  the middle of it is not mended;
* what is durable, the operating system decides.

What an item looks like there, and which items are ours, each ``Items`` says for itself. Raises KeychainError only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from keychain_auth.errors import CollectionLocked, KeychainError, ValueNotText
from keychain_auth.keychain.budget import ANSWER_BYTES, Budget
from keychain_auth.keychain.names import encoded, require_names
from keychain_auth.model import Item

T = TypeVar("T")


class Entry(NamedTuple):
    """One item. ``value``: None where it was only listed."""

    service: str
    target: str
    attributes: Mapping[str, str]
    value: bytes | None = None


class Items(Protocol):
    """The operating system's side. Every call may block, and raises KeychainError (CollectionLocked) only."""

    def names(self, service: str | None) -> Iterable[Entry]:
        """What there is of ``service``, or of all services, each place once. Values may be left out."""

    def find(self, service: str, target: str) -> Entry | None:
        """The item with its value, None if there is none."""

    def check(self, service: str, target: str, value: bytes, attributes: Mapping[str, str]) -> None:
        """Raises KeychainError if such an item cannot be stored. Asked of every item before the first is stored."""

    def put(self, service: str, target: str, value: bytes, attributes: Mapping[str, str]) -> None:
        """Store the item, in place of the one that is there."""

    def remove(self, service: str, target: str) -> None:
        """Remove the item; what is not there is no fault."""

    def probe(self) -> None:
        """See that the store can be asked."""


class ItemStore:
    """See ``threaded.BlockingStore``."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._closed = False
        self.answer_bytes = ANSWER_BYTES
        self.state = "not asked yet"
        self.problem = ""

    def within(self, deadline: float, work: Callable[[], T]) -> T:
        """``work``. A call of the operating system takes as long as it takes."""
        return work()

    # --- reading ----------------------------------------------------------------------------------

    def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        require_names(service, targets, attributes)
        return self._attempt(lambda: self._revealed(service, targets, attributes))

    def read_prefix(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        require_names(service, prefixes, attributes)

        def look() -> list[Item]:
            under = [entry.target for entry in self._under(service, prefixes) if _fits(entry, attributes)]
            return self._revealed(service, under, attributes)

        return self._attempt(look)

    def search(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        require_names(service, prefixes, attributes)

        def look() -> list[Item]:
            budget = Budget(self.answer_bytes)
            found = []
            for entry in self._under(service, prefixes or ("",)):
                if _fits(entry, attributes):
                    budget.take(0, entry.target, entry.attributes)
                    found.append(Item(entry.target, None, dict(entry.attributes) or None))
            return found

        return self._attempt(look)

    def services(self) -> list[str]:
        """See Keychain."""
        return self._attempt(lambda: sorted({entry.service for entry in self._items.names(None)}))

    def probe(self) -> None:
        """See ``threaded.BlockingStore``."""
        try:
            self._attempt(self._items.probe)
        except KeychainError:
            return  # it is in ``problem``

    def _under(self, service: str, prefixes: Sequence[str]) -> list[Entry]:
        wanted = tuple(prefixes)
        found = [entry for entry in self._items.names(service) if entry.target.startswith(wanted)]
        return sorted(found, key=lambda entry: entry.target)

    def _revealed(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        budget = Budget(self.answer_bytes)
        found = []
        for target in targets:
            entry = self._items.find(service, target)
            if entry is None or not _fits(entry, attributes):
                continue
            value = entry.value or b""
            if len(targets) > 1:
                budget.take(len(value), target, entry.attributes)
            found.append(Item(target, _text(entry, value), dict(entry.attributes) or None))
        return found

    # --- changing ---------------------------------------------------------------------------------

    def write(self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str]) -> None:
        """See Keychain; undone as far as the operating system lets us if a step fails."""
        require_names(service, [target for target, _ in entries], attributes)
        values = dict(zip((target for target, _ in entries), encoded(value for _, value in entries), strict=True))
        for target, value in values.items():
            self._items.check(service, target, value, attributes)
        self._change(service, values, lambda target, _: self._items.put(service, target, values[target], attributes))

    def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        """See Keychain; undone as far as the operating system lets us if a step fails."""
        require_names(service, targets, attributes)

        def remove(target: str, before: Entry | None) -> None:
            if before is not None and _fits(before, attributes):
                self._items.remove(service, target)

        self._change(service, dict.fromkeys(targets), remove)

    def _change(self, service: str, targets: Iterable[str], step: Callable[[str, Entry | None], None]) -> None:
        before = self._attempt(lambda: {target: self._items.find(service, target) for target in targets})
        touched: list[str] = []

        def make() -> None:
            for target, entry in before.items():
                touched.append(target)
                step(target, entry)

        try:
            self._attempt(make)
        except KeychainError as error:
            failure = error
        else:
            return
        raise self._undone(service, before, touched, failure)

    def _undone(
        self, service: str, before: Mapping[str, Entry | None], touched: Sequence[str], failure: KeychainError
    ) -> KeychainError:
        """Put back what was there. What is returned says whether that worked.

        The last step may have been made or not, so nothing is taken for granted. Each is tried, whatever became of the
        others.
        """
        left, why = [], ""
        for target in reversed(touched):
            entry = before[target]
            try:
                if self._items.find(service, target) == entry:
                    continue
                if entry is None:
                    self._items.remove(service, target)
                else:
                    self._items.put(service, target, entry.value or b"", entry.attributes)
            except KeychainError as problem:
                left.append(target)
                why = str(problem)
        if not left:
            return failure
        names = ", ".join(repr(target) for target in reversed(left))
        return type(failure)(
            f"{failure}; what was changed before could not be undone ({why}): look at {names}", hint=failure.hint
        )

    # --- the state of the store ---------------------------------------------------------------------

    def disconnect(self) -> None:
        """Nothing is kept between two operations."""

    def close(self) -> None:
        """Nothing works any more."""
        self._closed = True

    def _attempt(self, work: Callable[[], T]) -> T:
        """``work``, and what it says of the store."""
        if self._closed:
            raise KeychainError("this keychain is closed", hint="keychain-auth start")
        try:
            result = work()
        except CollectionLocked as error:
            self.state, self.problem = "locked", str(error)
            raise
        except StoreUnreachable as error:
            self.state, self.problem = "not reachable", str(error)
            raise
        except KeychainError:  # about what was asked, and it may name it: nothing for ``problem``
            self.state, self.problem = "open", ""
            raise
        self.state, self.problem = "open", ""
        return result


class StoreUnreachable(KeychainError):
    """The store as a whole cannot be asked. Its text names no item."""


def _fits(entry: Entry, attributes: Mapping[str, str]) -> bool:
    return attributes.items() <= entry.attributes.items()


def _text(entry: Entry, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:  # it would carry the value along: raised below, outside of the handler
        pass
    raise ValueNotText(f"the stored value of {entry.target!r} in service {entry.service!r} is not UTF-8 text")


__all__ = ["Entry", "ItemStore", "Items", "StoreUnreachable"]
