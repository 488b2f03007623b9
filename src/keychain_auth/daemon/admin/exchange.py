"""Many secrets in and out, over the admin socket: what ``export`` and ``import`` are made of.

Contract: as in ``admin.socket``: each use is on record before its answer, with the names and never a value. A batch of
``put`` is one transaction of one service. Both stay below what an answer or a request of this socket may be long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keychain_auth.daemon.admin.secrets import require_well_formed
from keychain_auth.daemon.admin.socket import AdminCommands, AdminRequest, Command
from keychain_auth.daemon.requests.bait import Bait
from keychain_auth.keychain.router import Router
from keychain_auth.platform.base import Peer
from keychain_auth.wire.messages import Limits

_PAGE = 200  # secrets
_PAGE_CHARS = 500_000


class ExchangeCommands:
    """``table`` is for ``AdminCommands.add``."""

    def __init__(self, router: Router, commands: AdminCommands, limits: Limits, bait: Bait) -> None:
        self._router = router
        self._bait = bait
        self._limits = limits
        self._record = commands.record
        self.table: Mapping[str, Command] = {"services": self._services, "page": self._page, "put": self._put}

    async def _services(self, request: AdminRequest, peer: Peer, path: str) -> list[str]:
        self._record(peer, path, "search", "", ())
        return await self._router.services()

    async def _page(self, request: AdminRequest, peer: Peer, path: str) -> list[dict[str, Any]]:
        """Some secrets of a service with their values, in order, those after ``after``; none: that was all."""
        found = [item.target for item in await self._router.search(request.service, (), {})]
        bait = self._bait.among_names(request.service, found)
        if bait and not request.after:  # told once, with the first page; canaries are in none
            self._bait.by_command(request.service, bait, "export", peer, path)
        names = [name for name in found if name > request.after and name not in bait][:_PAGE]
        rows: list[dict[str, Any]] = []
        chars = 0
        for item in await self._router.read(request.service, names, {}) if names else []:
            chars += len(item.value or "")
            if rows and chars > _PAGE_CHARS:
                break
            rows.append({"target": item.target, "value": item.value, "attributes": item.attributes or {}})
        self._record(peer, path, "export", request.service, [row["target"] for row in rows])
        return rows

    async def _put(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, list[str]]:
        """Store ``entries`` with ``attributes``: their names as ``new``, ``replaced``, ``same``, and ``kept``.

        What is there with another value is kept, unless ``replace``. ``dry_run`` stores nothing.
        """
        names = list(request.entries)
        document: dict[str, Any] = {"type": "REQUEST", "action": "write", "service": request.service}
        document |= {"targets": names, "values": list(request.entries.values()), "attributes": request.attributes}
        require_well_formed(document, self._limits)
        there = {item.target: item for item in await self._router.read(request.service, names, {})}
        said: dict[str, list[str]] = {"new": [], "replaced": [], "same": [], "kept": []}
        for name, value in request.entries.items():
            item = there.get(name)
            if item is None:
                said["new"].append(name)
            elif item.value == value and (item.attributes or {}) == request.attributes:
                said["same"].append(name)
            else:
                said["replaced" if request.replace else "kept"].append(name)
        wanted = [*said["new"], *said["replaced"]]
        if wanted and not request.dry_run:
            self._record(peer, path, "import", request.service, wanted)
            entries = [(name, request.entries[name]) for name in wanted]
            await self._router.write(request.service, entries, request.attributes, path)
        return said
