"""An opened file that says who a program is, but for how one system hashes it."""

from __future__ import annotations

import os

import msgspec

from keychain_auth.identity.facts import FileKey, ScriptFacts


class OpenedFile:
    """``base.Script`` but for ``hash``.

    Holds one descriptor until ``close``, or until nobody refers to it: who wanted it may have given up meanwhile.
    """

    __slots__ = ("_fd", "facts", "key")

    def __init__(self, fd: int, key: FileKey, facts: ScriptFacts) -> None:
        self._fd = fd
        self.key = key
        self.facts = facts

    def __del__(self) -> None:
        self.close()

    def hashed(self, sha256: str) -> ScriptFacts:
        """The facts with the hash in them."""
        return msgspec.structs.replace(self.facts, sha256=sha256)

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
