"""The canaries of a running daemon: remembered in the vault, watched in memory.

Contract: who reached for a canary is held from that moment on, in memory; that it is held is in the vault soon after,
and outlives the daemon. Names of canaries are in memory only while the vault is open; who is held stays known when it
is locked.

What it does not promise: a secret from other programs of the same user while the vault opens by a file of theirs. With
a passphrase set, only who knows it can ask which secrets are canaries.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec

from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.errors import KeychainError
from keychain_auth.keychain.vault import Vault
from keychain_auth.keychain.vault.format import OWN_CANARIES
from keychain_auth.model import Identity
from keychain_auth.moments import stamp
from keychain_auth.policy.canaries import Alarm, Canaries, decode, encode


class CanaryWatch:
    """``watching`` is all that a request looks at while there are none. ``canaries``: see there."""

    def __init__(self, safe: Safe, journal: Journal) -> None:
        self._safe = safe
        self._journal = journal
        self._saving: asyncio.Task[None] | None = None
        self.canaries = Canaries()
        self.watching = False

    def opened(self, vault: Vault) -> None:
        """The vault was opened. What fired since it was opened last is not forgotten. Raises KeychainError."""
        fired = self.canaries.alarms
        try:
            self.canaries = decode(vault.own(OWN_CANARIES) or "{}")
        except ValueError as problem:
            self._journal.error("the canaries cannot be read", why=problem)
        for alarm in fired:
            self.canaries = self.canaries.with_alarm(alarm)
        self._look()

    def locked(self) -> None:
        """The vault was locked: forget the names."""
        self.canaries = msgspec.structs.replace(self.canaries, names={})
        self._look()

    def catch(self, identity: Identity, service: str, target: str) -> Alarm:
        """Hold the program of ``identity`` from now on."""
        program = identity.subject
        alarm = Alarm(program.path, program.sha256, service, target, stamp(datetime.now(UTC)), identity.uid)
        self.canaries = self.canaries.with_alarm(alarm)
        self._look()
        self._saving = asyncio.ensure_future(self._save_alarm(self._saving))
        return alarm

    async def change(self, canaries: Canaries) -> None:
        """Remember ``canaries``, durably. Raises KeychainError: then nothing changed."""
        await self._safe.vault.keep_own(OWN_CANARIES, encode(canaries))
        self.canaries = canaries
        self._look()

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._saving is not None:
            await asyncio.gather(self._saving, return_exceptions=True)

    async def _save_alarm(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        try:
            await self._safe.vault.keep_own(OWN_CANARIES, encode(self.canaries))
        except KeychainError as error:
            self._journal.error("an alarm is in memory only: a restart would forget it", why=error)

    def _look(self) -> None:
        self.watching = bool(self.canaries.names or self.canaries.alarms)
