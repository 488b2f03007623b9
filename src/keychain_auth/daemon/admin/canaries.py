"""Canaries for people, over the admin socket: set them, list them, release who reached for one.

Contract: as in ``admin.socket``, with one exception that is on purpose: no record names a canary before it has fired,
because every program of this user can read the audit log.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from keychain_auth.daemon.admin.secrets import require_well_formed
from keychain_auth.daemon.admin.socket import AdminCommands, AdminRequest, Command
from keychain_auth.daemon.state.canary_watch import CanaryWatch
from keychain_auth.errors import NotFound, UsageError
from keychain_auth.keychain.router import Router
from keychain_auth.platform.base import Peer
from keychain_auth.wire.messages import Limits

_RANDOM_BYTES = 30  # 40 characters, as many tokens have


class CanaryCommands:
    """``table`` is for ``AdminCommands.add``."""

    def __init__(self, watch: CanaryWatch, router: Router, commands: AdminCommands, limits: Limits) -> None:
        self._watch = watch
        self._router = router
        self._record = commands.record
        self._limits = limits
        self.table: Mapping[str, Command] = {
            "canary-add": self._add,
            "canary-list": self._list,
            "canary-remove": self._remove,
            "canary-release": self._release,
        }

    async def _add(self, request: AdminRequest, peer: Peer, path: str) -> None:
        """Make a secret of that name, which nobody has a reason to read. Without a value it gets a random one."""
        service, target = request.service, request.target
        value = secrets.token_urlsafe(_RANDOM_BYTES) if request.value is None else request.value
        document = {"type": "REQUEST", "action": "write", "service": service, "targets": [target], "values": [value]}
        require_well_formed(document, self._limits)
        if await self._router.read(service, (target,), {}):
            raise UsageError(
                f"{service} has a secret {target} already: whoever uses it would be cut off",
                hint="keychain-auth canary add SERVICE ANOTHER-NAME",
            )
        self._record(peer, path, "canary_add", "", ())
        # Marked first: a canary without a secret does no harm, a bait that nobody watches does.
        await self._watch.change(self._watch.canaries.with_name(service, target))
        await self._router.write(service, [(target, value)], await self._attributes(service), path)

    async def _attributes(self, service: str) -> dict[str, str]:
        """Those of another secret there: where all have some, one without any would be known by that."""
        others = [item.attributes for item in await self._router.search(service, (), {}) if item.attributes]
        return dict(secrets.choice(others)) if others else {}

    async def _list(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        self._record(peer, path, "canary_list", "", ())
        canaries = self._watch.canaries
        names = [(service, target) for service, targets in canaries.names.items() for target in targets]
        return {
            "canaries": [{"service": service, "target": target} for service, target in sorted(names)],
            "held": alarms_of(self._watch),
        }

    async def _remove(self, request: AdminRequest, peer: Peer, path: str) -> None:
        """The canary and its secret."""
        service, target = request.service, request.target
        if target not in self._watch.canaries.names.get(service, ()):
            raise NotFound(f"{service} {target} is no canary", hint="keychain-auth canary list")
        self._record(peer, path, "canary_remove", "", ())
        await self._router.delete(service, (target,), {})
        await self._watch.change(self._watch.canaries.without_name(service, target))

    async def _release(self, request: AdminRequest, peer: Peer, path: str) -> None:
        """Serve a program again that reached for a canary."""
        released = self._watch.canaries.released(request.path)
        if released == self._watch.canaries:
            raise NotFound(f"{request.path} is not held", hint="keychain-auth canary list")
        self._record(peer, path, "canary_release", "", (request.path,))
        await self._watch.change(released)


def alarms_of(watch: CanaryWatch) -> list[dict[str, str]]:
    """Who is held and since when, for whoever may ask for the daemon's state."""
    return [{"program": alarm.path, "hash": alarm.sha256, "when": alarm.when} for alarm in watch.canaries.alarms]
