"""What a person does with several keychains, over the admin socket: migrate a service from one into another.

Contract: as in ``admin.socket``: what is changed is on record before, and no answer and no record holds a value. One
command is one step (``keychain.migration``): the command line asks for the next, so that none takes long.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from keychain_auth.daemon.admin.secrets import require_well_formed
from keychain_auth.daemon.admin.socket import AdminCommands, AdminRequest, Command
from keychain_auth.errors import UsageError
from keychain_auth.keychain.migration import Migration, Step
from keychain_auth.keychain.router import Router
from keychain_auth.platform.base import Peer
from keychain_auth.wire.messages import Limits


class KeychainCommands:
    """``table`` is for ``AdminCommands.add``."""

    def __init__(self, router: Router, commands: AdminCommands, limits: Limits) -> None:
        self._router = router
        self._limits = limits
        self._commands = commands
        self.table: Mapping[str, Command] = {"migrate": self._migrate, "migrate-remove": self._remove}

    async def _migrate(self, request: AdminRequest, peer: Peer, path: str) -> Step:
        migration = self._migration(request, peer, path, "migrate")
        step = await migration.copy(request.after, replace=request.replace, dry_run=request.dry_run)
        step.routed = self._router.routes.find(request.service)
        return self._seen(step, request, peer, path)

    async def _remove(self, request: AdminRequest, peer: Peer, path: str) -> Step:
        routed = self._router.routes.find(request.service)
        if routed != request.to:
            raise UsageError(
                f"programs still get {request.service} from {routed}: nothing was removed there",
                hint=f'set "{request.service}" = "{request.to}" in daemon.toml, [keychains.routes], and restart first',
            )
        step = await self._migration(request, peer, path, "migrate_remove").remove(request.after)
        return self._seen(step, request, peer, path)

    def _seen(self, step: Step, request: AdminRequest, peer: Peer, path: str) -> Step:
        """What was only looked at is on record too, before it is told."""
        targets = sorted([*step.alike, *step.differing, *step.unreadable, *(step.copied if request.dry_run else ())])
        if targets:
            detail = f"compared in {request.keychain} and {request.to}"
            self._commands.record(peer, path, "search", request.service, targets, detail=detail)
        return step

    def _migration(self, request: AdminRequest, peer: Peer, path: str, action: str) -> Migration:
        require_well_formed({"type": "REQUEST", "action": "search", "service": request.service}, self._limits)
        if request.keychain == request.to:
            raise UsageError("a migration goes from one keychain to another")
        source, destination = self._router.named(request.keychain), self._router.named(request.to)
        detail = f"from {request.keychain} to {request.to}"
        record = partial(self._commands.record, peer, path, action, request.service, detail=detail)
        return Migration(request.service, source, destination, path, record)
