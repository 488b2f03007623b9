"""A file beside the program that says who it is: a script, opened as its interpreter did, or a library.

Opening it asks whatever filesystem it lies on, so it can take for ever: that is for a worker thread. What the file is
(``facts``) is known before a byte of it is read, so that a filesystem that nobody trusts is never read from.
"""

from __future__ import annotations

from keychain_auth.identity.facts import FileKey, ScriptFacts
from keychain_auth.platform.base import Digest, Pace
from keychain_auth.platform.linux import filehash
from keychain_auth.platform.posix.openfile import OpenedFile


class LinuxFile(OpenedFile):
    """See ``base.Script``."""

    __slots__ = ("_nosuid",)

    def __init__(self, fd: int, key: FileKey, facts: ScriptFacts, *, nosuid: bool) -> None:
        super().__init__(fd, key, facts)
        self._nosuid = nosuid

    def hash(self, limit: int, pace: Pace) -> Digest:
        """See ``base.Script.hash``."""
        return filehash.digest(self._fd, limit, pace, nosuid=self._nosuid)
