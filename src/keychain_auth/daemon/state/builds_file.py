"""builds.json: which build was the newest, of the programs whose entry refuses older ones.

Contract: a number is on disk before the program that raised it is served; if it cannot be written, that program is not.
From the moment a number is seen, lower ones are refused, also by a daemon that is started later. Only the daemon
writes the file; it is read once, at start. One that is not what it must be stops the start: to begin with an empty one
would be to forget.

What this does not promise: anything against somebody who puts an older file in its place. It is a file of this user.
"""

from __future__ import annotations

import shlex

from keychain_auth import files
from keychain_auth.daemon.attesting.workers import Overdue, Workers
from keychain_auth.errors import KeychainAuthError
from keychain_auth.policy.builds import Builds, decode_builds, encode_builds

_SECONDS = 5.0


class BuildsFile:
    """The numbers in memory and on disk."""

    def __init__(self, path: str) -> None:
        """Raises KeychainAuthError when the file is there and is no list of builds."""
        self._path = path
        try:
            self._seen = decode_builds(files.read_private(path))
        except FileNotFoundError:
            self._seen = {}
        except ValueError as problem:
            raise KeychainAuthError(
                f"{path} is not a list of builds: {problem}",
                hint=f"mv {shlex.quote(path)} {shlex.quote(path)}.damaged (older builds are accepted then)",
            ) from None
        self._written = dict(self._seen)
        self._writer = Workers("builds", 1)

    @property
    def seen(self) -> Builds:
        """The highest build of each path and signer."""
        return self._seen

    async def record(self, path: str, signer: bytes, build: int) -> None:
        """Remember that ``build`` was seen; returns when that is durable. Raises OSError."""
        key = path, signer
        if build > self._seen.get(key, -1):
            self._seen[key] = build
        if self._written.get(key, -1) >= build:
            return
        snapshot = dict(self._seen)
        content = encode_builds(snapshot)
        try:
            # One thread, so the files come in the order of their snapshots: a later one has all of an earlier one.
            await self._writer.run(lambda: files.replace(self._path, content), _SECONDS)
        except Overdue:
            raise OSError(0, f"not written within {_SECONDS:g} seconds", self._path) from None
        for written, number in snapshot.items():
            self._written[written] = max(number, self._written.get(written, -1))

    def close(self) -> None:
        """No more is written. Does not wait."""
        self._writer.close()
