"""Whose secrets lie under which user id, in system mode: ``keychain-auth owner``, over the admin socket.

Contract: as in ``admin.socket``. What is forgotten is on record by service before it is removed, its earlier values
with it; the number becomes nobody's only when all of it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keychain_auth.daemon.admin.socket import AdminCommands, AdminRequest, Command
from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.daemon.state.owners import Owners
from keychain_auth.errors import NotFound
from keychain_auth.keychain.router import VAULT, Router
from keychain_auth.oslayer import system
from keychain_auth.platform.base import Peer
from keychain_auth.policy.users import own_prefix


class OwnerCommands:
    """``table`` is for ``AdminCommands.add``."""

    def __init__(self, owners: Owners, router: Router, safe: Safe, commands: AdminCommands) -> None:
        self._owners = owners
        self._router = router
        self._safe = safe
        self._record = commands.record
        self.table: Mapping[str, Command] = {
            "owners": self._list,
            "owner-keep": self._keep,
            "owner-forget": self._forget,
        }

    async def _list(self, request: AdminRequest, peer: Peer, path: str) -> list[dict[str, Any]]:
        self._safe.require_open()
        return [
            {
                "uid": uid,
                "account": name,
                "now": system.user_name(uid),
                "services": [stored.removeprefix(own_prefix(uid)) for stored in await self._owners.services(uid)],
            }
            for uid, name in sorted(self._owners.names.items())
        ]

    async def _keep(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        uid = request.number
        before = self._known(uid)
        name = system.user_name(uid)
        self._record(peer, path, "owner_keep", "", (), detail=f"uid {uid}: {before} is {name} now")
        await self._owners.keep(uid, name)
        return {"uid": uid, "account": name, "before": before}

    async def _forget(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        uid = request.number
        before = self._known(uid)
        services = await self._owners.services(uid)
        count = 0
        for service in services:
            targets = [item.target for item in await self._router.search(service, (), {})]
            self._record(peer, path, "owner_forget", service, targets, detail=f"uid {uid}, account {before}")
            await self._router.delete(service, targets, {})
            count += len(targets)
            if self._router.routes.find(service) == VAULT:
                for target in targets:
                    await self._safe.vault.forget(service, target)
        if not services:
            self._record(peer, path, "owner_forget", "", (), detail=f"uid {uid}, account {before}: nothing was stored")
        await self._owners.forget(uid)
        return {"uid": uid, "account": before, "removed": count}

    def _known(self, uid: int) -> str:
        self._safe.require_open()
        name = self._owners.names.get(uid)
        if name is None:
            raise NotFound(f"nothing was stored under uid {uid}", hint="keychain-auth --system owner list")
        return name
