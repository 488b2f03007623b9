"""What the contract suite works with: difficult names and values, and a keychain that is easy to ask."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.base import Keychain
from keychain_auth.model import Item
from keychain_auth.testing.store import CannotDo, Store

SERVICE = "svc"
SECRET = "a value that no error may show"  # noqa: S105 - no secret

# Each is another name than all the others: to a separator, a case-insensitive or normalising storage, a pattern, a
# path or a quoting mistake, some of them look alike.
DIFFICULT = (
    "a", "A", "a ", " a", "a  ", "a:b", "a/b", "a\\b", "a.b", "a..b", "../a", ".", "a%b", "a_b", "a%3Ab", "a*b", "a?b",
    "[a]", "[!a]", "*", "?", "'", '"', "a'b", 'a"b', "$a", "`a`", "a;b", "a&b", "a=b", "a,b", "{a}", "\u00e9",
    "e\u0301", "\u00df", "ss", "SS", "\u0130", "i", "I", "\u0131", "\u202ea", "\ufeffa", "a\u00a0", "\ud7ff", "\ue000",
    "\ufffd", "\uffff", "\U00010000", "\U0010ffff", "пароль", "密码", "\N{KEY}", "\N{FAMILY}\u200d\N{KEY}", "x" * 1024,
)  # fmt: skip
VALUES = (
    "", " ", "\n", "a\n", " a ", "\0", "a\0b", "\r\n", "\ufeffa", "\uffff", "é", "e\u0301", "пароль", "\N{KEY}\N{LOCK}",
    "{}", "null", "x" * 65536, "\N{KEY}" * 16384, "x" * 262144,
)  # fmt: skip


class Lab(NamedTuple):
    """A keychain, and a loop to run what it does."""

    store: Store
    keychain: Keychain
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def attempt(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do what a storage may be unable to do; skip the test with its reason then."""
        try:
            self.run(act())
        except CannotDo as reason:
            pytest.skip(str(reason))

    def write(self, entries: dict[str, str], service: str = SERVICE, **attributes: str) -> None:
        """Store."""
        self.run(self.keychain.write(service, list(entries.items()), attributes))

    def read(self, *targets: str, service: str = SERVICE, **attributes: str) -> list[Item]:
        """Read by name."""
        return list(self.run(self.keychain.read(service, targets, attributes)))

    def prefix(self, *prefixes: str, service: str = SERVICE, **attributes: str) -> list[Item]:
        """Read by prefix."""
        return list(self.run(self.keychain.read_prefix(service, prefixes, attributes)))

    def search(self, *prefixes: str, service: str = SERVICE, **attributes: str) -> list[Item]:
        """Search."""
        return list(self.run(self.keychain.search(service, prefixes, attributes)))

    def delete(self, *targets: str, service: str = SERVICE, **attributes: str) -> None:
        """Delete."""
        self.run(self.keychain.delete(service, targets, attributes))

    def services(self) -> list[str]:
        """The services."""
        return list(self.run(self.keychain.services()))

    def everything(self, service: str = SERVICE) -> dict[str, str | None]:
        """All targets and values of a service."""
        return {item.target: item.value for item in self.prefix("", service=service)}

    def once_back(self, patience: float) -> dict[str, str | None]:
        """``everything``, of a storage that has just come back: it may be avoided for a while, at most ``patience``
        seconds. Raises the KeychainError that it still says then."""
        ends = time.monotonic() + patience
        pause = threading.Event()
        while True:
            try:
                return self.everything()
            except KeychainError:
                if time.monotonic() > ends:
                    raise
            pause.wait(0.01)

    def failures(self) -> list[tuple[KeychainError | None, float]]:
        """What each operation says, and after how many seconds. None: it did not fail."""
        keychain = self.keychain
        operations: Sequence[Callable[[], Coroutine[Any, Any, Any]]] = (
            lambda: keychain.read(SERVICE, ["a"], {}),
            lambda: keychain.read_prefix(SERVICE, [""], {}),
            lambda: keychain.search(SERVICE, [], {}),
            keychain.services,
            lambda: keychain.write(SERVICE, [("a", f"{SECRET}, new")], {}),
            lambda: keychain.delete(SERVICE, ["a"], {}),
        )
        found: list[tuple[KeychainError | None, float]] = []
        for operation in operations:
            began = time.monotonic()
            problem = None
            try:
                self.run(operation())
            except KeychainError as error:
                problem = error
            found.append((problem, time.monotonic() - began))
        return found


@contextlib.contextmanager
def opened(store: Store, keychain: Keychain | None = None) -> Iterator[Lab]:
    """The storage with a keychain on it (its own, if none is given), which is closed at the end."""
    with asyncio.Runner() as runner:
        used = store.open() if keychain is None else keychain
        try:
            yield Lab(store, used, runner.run)
        finally:
            runner.run(used.close())


def assert_silent(error: BaseException) -> None:
    """Neither the error nor what it was raised from shows the value."""
    told = "".join(traceback.format_exception_only(error)) + repr(error.__context__) + repr(error.__cause__)
    assert SECRET not in told


__all__ = ["DIFFICULT", "SECRET", "SERVICE", "VALUES", "Lab", "assert_silent", "opened"]
