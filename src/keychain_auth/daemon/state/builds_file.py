"""builds.json: which build was the newest, of the programs whose entry refuses older ones.

Contract: a number is on disk before the program that raised it is served; if it cannot be written, that program is not.
From the moment a number is seen, lower ones are refused, also by a daemon that is started later, for as long as the
entry refuses older builds: who takes that off it, forgets them. Only the daemon
writes the file; it is read once, at start. One that is not what it must be stops the start: to begin with an empty one
would be to forget. The vault remembers the numbers too: an older file in the place of this one brings no older build
back, and is mended when the vault opens.

What this does not promise: what the vault remembers, where a key file opens it to everybody of this user. And while it
was never open, the file alone counts; nothing is given out then.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable

from keychain_auth import files
from keychain_auth.daemon.attesting.workers import Overdue, Workers
from keychain_auth.errors import KeychainAuthError, KeychainError, VaultDamaged
from keychain_auth.policy.builds import Builds, decode_builds, encode_builds
from keychain_auth.policy.parse import Policy

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
        self._kept: dict[tuple[str, bytes], int] = {}
        self._behind = False  # file or vault may know less than is known here
        self._writer = Workers("builds", 1)
        self.remember: Callable[[str], Awaitable[bool]] = _nowhere
        """Has the vault remember a text; False while it is locked. Raises KeychainError."""

    @property
    def seen(self) -> Builds:
        """The highest build of each path and signer."""
        return self._seen

    async def record(self, path: str, signer: bytes, build: int) -> None:
        """Remember that ``build`` was seen; returns when that is durable. Raises OSError."""
        key = path, signer
        if build > self._seen.get(key, -1):
            self._seen[key] = build
        if self._written.get(key, -1) < build:
            await self._write()
        if self._kept.get(key, -1) < build:
            await self._keep()

    def opened(self, text: str | None) -> bool:
        """The vault was opened, and remembers ``text``: its numbers count as well. Whether that raised one.

        Raises VaultDamaged.
        """
        try:
            self._kept = {} if text is None else decode_builds(text.encode())
        except ValueError as problem:
            raise VaultDamaged(f"the builds in the vault are not what they must be: {problem}") from None
        higher = {key: build for key, build in self._kept.items() if build > self._seen.get(key, -1)}
        self._seen.update(higher)
        self._behind = self._behind or self._kept != self._seen or self._written != self._seen
        return bool(higher)

    def forget_others(self, policy: Policy) -> None:
        """Drop the numbers of what refuses no older builds any more."""
        asked = {(entry.program.path, entry.signer) for entry in policy.by_program.values() if entry.no_rollback}
        for key in [key for key in self._seen if key not in asked]:
            for numbers in (self._seen, self._written, self._kept):
                numbers.pop(key, None)
            self._behind = True

    async def mend(self) -> None:
        """Bring file and vault to what is known, once after something was learned or forgotten. Raises OSError."""
        if self._behind:
            self._behind = False
            await self._write()
            await self._keep()

    async def _keep(self) -> None:
        """No other snapshot is taken between this one and its place in the vault's order."""
        snapshot = dict(self._seen)
        try:
            if await self.remember(encode_builds(snapshot).decode()):
                self._kept = snapshot
        except KeychainError as error:
            raise OSError(0, str(error), self._path) from None

    async def _write(self) -> None:
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


async def _nowhere(text: str) -> bool:
    return False
