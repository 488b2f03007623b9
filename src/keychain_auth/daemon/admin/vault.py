"""What a person does with the vault as a whole, over the admin socket: history, check, backup.

Contract: as in ``admin.socket``: each use is on record before its answer, no answer and no record holds a value.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from keychain_auth.daemon.admin.socket import AdminCommands, AdminRequest, Command
from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.errors import KeychainAuthError, NotFound, UsageError, quoted
from keychain_auth.keychain.router import VAULT
from keychain_auth.keychain.routes import Routes
from keychain_auth.keychain.vault import backup
from keychain_auth.keychain.vault.checking import CheckReport
from keychain_auth.keychain.vault.vault import Vault
from keychain_auth.moments import stamp
from keychain_auth.platform.base import Peer


class VaultCommands:
    """The commands that need this keychain to be a vault; ``table`` is for ``AdminCommands.add``."""

    def __init__(self, safe: Safe, routes: Routes, commands: AdminCommands) -> None:
        self._safe = safe
        self._routes = routes
        self._record = commands.record
        self._checking = asyncio.Lock()
        self.table: Mapping[str, Command] = {
            "history": self._history,
            "restore-value": self._restore_value,
            "forget": self._forget,
            "vault-check": self._check,
            "backup": self._backup,
        }

    @property
    def _vault(self) -> Vault:
        """The open vault. Raises VaultLocked."""
        return self._safe.vault

    def _require_vault(self, service: str) -> None:
        keychain = self._routes.find(service)
        if keychain != VAULT:
            raise UsageError(
                f"{service} lies in the keychain {keychain}, which keeps no earlier values; only the vault does",
                hint=f"keychain-auth migrate {quoted(service)} --from {quoted(keychain)} --to vault",
            )

    async def _history(self, request: AdminRequest, peer: Peer, path: str) -> list[dict[str, Any]]:
        self._require_vault(request.service)
        versions = await self._vault.history(request.service, request.target)
        self._record(peer, path, "history", request.service, (request.target,) if versions else ())
        if not versions:
            raise _nothing_of(request)
        return [msgspec.structs.asdict(version) for version in versions]

    async def _restore_value(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, bool]:
        """``replaced``: whether there was a present value, which is an earlier one now."""
        self._require_vault(request.service)
        self._record(peer, path, "restore_value", request.service, (request.target,))
        versions = await self._vault.history(request.service, request.target)
        await self._vault.restore_value(request.service, request.target, request.number, path)
        return {"replaced": bool(versions) and versions[0].number == 0}

    async def _forget(self, request: AdminRequest, peer: Peer, path: str) -> None:
        self._require_vault(request.service)
        if not await self._vault.history(request.service, request.target):
            raise _nothing_of(request)
        self._record(peer, path, "forget", request.service, (request.target,))
        await self._vault.forget(request.service, request.target)

    async def _check(self, request: AdminRequest, peer: Peer, path: str) -> CheckReport:
        self._record(peer, path, "vault_check", "", ())
        async with self._checking:  # one at a time: each reads the whole vault
            return await self._vault.check()

    async def _backup(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, int]:
        """The daemon writes the file itself: what is in it leaves this process only sealed."""
        if request.new_passphrase is None or not os.path.isabs(request.path):
            raise UsageError("a backup needs a passphrase, and a path from the root")
        self._record(peer, path, "backup", "", (request.path,))
        created = stamp(datetime.now(UTC))
        async with self._checking:
            content = await self._vault.backup(request.new_passphrase, created)
        try:
            await asyncio.to_thread(backup.write_new, request.path, content)
        except OSError as error:
            folder = os.path.dirname(request.path)
            raise KeychainAuthError(
                f"cannot write {request.path}: {error.strerror}",
                hint=f"ls -ld {quoted(folder)}; df -h {quoted(folder)}",
            ) from None
        return {"bytes": len(content)}


def _nothing_of(request: AdminRequest) -> NotFound:
    return NotFound(
        f"{request.service} has no {request.target}, and no earlier value of it",
        hint=f"keychain-auth list-secrets {quoted(request.service)}",
    )
