"""A file beside the program that says who it is: a script, opened as its interpreter did, or a library.

Opening it asks whatever filesystem it lies on, so it can take for ever: that is for a worker thread. What the file is
(``facts``) is known before a byte of it is read, so that a filesystem that nobody trusts is never read from.
"""

from __future__ import annotations

import os

import msgspec

from keychain_auth.identity.facts import FileKey, ScriptFacts
from keychain_auth.platform.base import Digest, Pace
from keychain_auth.platform.linux import filehash


class LinuxFile:
    """See ``base.Script``.

    Holds one descriptor until ``close``, or until nobody refers to it: who wanted it may have given up meanwhile.
    """

    __slots__ = ("_fd", "_nosuid", "facts", "key")

    def __init__(self, fd: int, key: FileKey, facts: ScriptFacts, *, nosuid: bool) -> None:
        self._nosuid = nosuid
        self._fd = fd
        self.key = key
        self.facts = facts

    def __del__(self) -> None:
        self.close()

    def hash(self, limit: int, pace: Pace) -> Digest:
        """See ``base.Script.hash``."""
        return filehash.digest(self._fd, limit, pace, nosuid=self._nosuid)

    def hashed(self, sha256: str) -> ScriptFacts:
        """The facts with the hash in them."""
        return msgspec.structs.replace(self.facts, sha256=sha256)

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
