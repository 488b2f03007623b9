"""What the contract suite needs to know of a storage beside its keychain: how to open it, lock it, take it away.

A backend's test module brings a subclass of ``Store``. What its storage cannot do it says by raising ``CannotDo`` with
the reason, as the methods here do; the tests that need it are then skipped, and print that reason.
"""

from __future__ import annotations

from typing import Protocol

from keychain_auth.keychain.base import Keychain


class CannotDo(Exception):
    """This storage knows no such thing; the text says why."""


class Store(Protocol):
    """One storage, empty at first. ``open`` may be called again after the keychain before was closed."""

    def open(self) -> Keychain:
        """A keychain on the storage, which holds what an earlier one left there."""
        ...

    async def lock(self) -> None:
        """Lock the storage as its user would. Raises CannotDo."""
        raise CannotDo("this storage cannot be locked while it is open")

    async def unlock(self) -> None:
        """Undo ``lock``."""

    async def take_away(self) -> None:
        """Make the storage unreachable, as a crash or a lost network would. Raises CannotDo."""
        raise CannotDo("this storage cannot be taken away while it is open")

    async def bring_back(self) -> None:
        """Undo ``take_away``."""


__all__ = ["CannotDo", "Store"]
