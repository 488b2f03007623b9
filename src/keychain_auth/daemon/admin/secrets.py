"""Secrets for people, over the admin socket: set, get, get-many, list, rm.

Contract: as in ``admin.socket``: each use is on record before its answer, and no record holds a value. Names and values
obey the rules of the wire, so that programs can reach what people store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from keychain_auth.daemon.admin.socket import AdminCommands, AdminRequest, Command
from keychain_auth.daemon.requests.bait import Bait
from keychain_auth.daemon.state.uses import Uses
from keychain_auth.errors import NotFound, UsageError, quoted
from keychain_auth.keychain.base import Keychain
from keychain_auth.keychain.router import Router
from keychain_auth.platform.base import Peer
from keychain_auth.wire.codec import Malformed, decode_request
from keychain_auth.wire.messages import Limits

_encode = msgspec.json.Encoder().encode
_REASON_CHARS = 500


class UsesCommands:
    """What is left of grants that end: ``uses`` gives how often each was used, by id; ``table`` as elsewhere."""

    def __init__(self, uses: Uses) -> None:
        self._uses = uses
        self.table: Mapping[str, Command] = {"uses": self._tell}

    async def _tell(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, int]:
        return dict(self._uses.used)


class SecretCommands:
    """The commands about single secrets; ``table`` is for ``AdminCommands.add``."""

    def __init__(self, router: Router, commands: AdminCommands, limits: Limits, bait: Bait) -> None:
        self._keychain = router
        self._bait = bait
        self._limits = limits
        self._record = commands.record
        self.table: Mapping[str, Command] = {
            "set": self._set,
            "get": self._get,
            "get-many": self._get_many,
            "list": self._list,
            "rm": self._remove,
            "rm-many": self._remove_many,
        }

    async def _set(self, request: AdminRequest, peer: Peer, path: str) -> None:
        if request.value is None:
            raise UsageError("a value is needed")
        self._check(request, "write", [request.value])
        self._record(peer, path, "write", request.service, (request.target,))
        await self._keychain.write(request.service, [(request.target, request.value)], {}, path)

    async def _get(self, request: AdminRequest, peer: Peer, path: str) -> str:
        self._check(request, "read")
        if self._bait.by_command(request.service, (request.target,), "get", peer, path):
            raise _missing(request)
        items = await self._keychain.read(request.service, (request.target,), {})
        if not items or items[0].value is None:
            self._record(peer, path, "read", request.service, ())
            raise _missing(request)
        self._record(peer, path, "read", request.service, (request.target,))
        return items[0].value

    async def _get_many(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, dict[str, Any]]:
        """All that is ``wanted`` (targets by service) as ``values``; or none of it, and what is not there as
        ``missing``. ``reason`` goes on record: it is a claim of who asks."""
        for service, targets in request.wanted.items():
            document = {"type": "REQUEST", "action": "read", "service": service, "targets": targets}
            require_well_formed(document, self._limits)
        values: dict[str, Any] = {}
        missing: dict[str, Any] = {}
        for service, targets in request.wanted.items():
            bait = self._bait.by_command(service, targets, "run", peer, path)
            found = {item.target: item.value for item in await self._keychain.read(service, targets, {})}
            values[service] = found
            if lacking := [target for target in targets if found.get(target) is None or target in bait]:
                missing[service] = lacking
        for service, targets in request.wanted.items():
            given = () if missing else targets
            self._record(peer, path, "read", service, given, detail=request.reason[:_REASON_CHARS] or None)
        return {"values": {} if missing else values, "missing": missing}

    async def _list(self, request: AdminRequest, peer: Peer, path: str) -> list[dict[str, Any]]:
        keychain: Keychain = self._keychain.named(request.keychain) if request.keychain else self._keychain
        services = [request.service] if request.service else await keychain.services()
        rows = []
        for service in services:
            for item in await keychain.search(service, (request.prefix,) if request.prefix else (), {}):
                rows.append({"service": service, "target": item.target, "attributes": item.attributes or {}})
        detail = f"in {request.keychain}" if request.keychain else None
        self._record(peer, path, "search", request.service, [row["target"] for row in rows], detail=detail)
        return rows

    async def _remove(self, request: AdminRequest, peer: Peer, path: str) -> None:
        self._check(request, "delete")
        if not await self._keychain.read(request.service, (request.target,), {}):
            raise _missing(request)
        self._record(peer, path, "delete", request.service, (request.target,))
        await self._keychain.delete(request.service, (request.target,), {})

    async def _remove_many(self, request: AdminRequest, peer: Peer, path: str) -> None:
        """All that is ``wanted`` (targets by service), each service in one transaction."""
        for service, targets in request.wanted.items():
            document = {"type": "REQUEST", "action": "delete", "service": service, "targets": targets}
            require_well_formed(document, self._limits)
        for service, targets in request.wanted.items():
            self._record(peer, path, "delete", service, targets)
            await self._keychain.delete(service, targets, {})

    def _check(self, request: AdminRequest, action: str, values: list[str] | None = None) -> None:
        document: dict[str, Any] = {"type": "REQUEST", "action": action, "service": request.service}
        document["targets"] = [request.target]
        if values is not None:
            document["values"] = values
        require_well_formed(document, self._limits)


def _missing(request: AdminRequest) -> NotFound:
    return NotFound(
        f"{request.service} has no {request.target}", hint=f"keychain-auth list-secrets {quoted(request.service)}"
    )


def require_well_formed(document: dict[str, Any], limits: Limits) -> None:
    """Raises UsageError if a program could not make this request."""
    try:
        decode_request(_encode(document), limits)
    except Malformed as problem:
        raise UsageError(str(problem)) from None
