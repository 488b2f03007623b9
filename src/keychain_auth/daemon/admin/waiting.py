"""Who waits for a person right now, over the admin socket.

Contract: nothing is approved here. Who may have what is said in the policy, which the command line changes (and seals
where a passphrase is set); here a person sees who asks, and can say "not now".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keychain_auth.daemon.admin.socket import AdminCommands, AdminRequest, Command
from keychain_auth.daemon.requests.approvals import Approvals
from keychain_auth.errors import NotFound
from keychain_auth.platform.base import Peer

WAITING_OPEN_TO_ALL = frozenset(("waiting", "waiting-refuse"))
"""They give nothing out that the queue's file does not, and grant nothing."""
_NEWS_SECONDS = 10.0


class WaitingCommands:
    """``table`` is for ``AdminCommands.add``."""

    def __init__(self, approvals: Approvals, commands: AdminCommands) -> None:
        self._approvals = approvals
        self._record = commands.record
        self.table: Mapping[str, Command] = {"waiting": self._waiting, "waiting-refuse": self._refuse}

    async def _waiting(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        """Everybody who waits, once that is other than what version ``number`` was, or after some seconds."""
        await self._approvals.news(request.number, _NEWS_SECONDS)
        return {"version": self._approvals.version, "waiting": self._approvals.now()}

    async def _refuse(self, request: AdminRequest, peer: Peer, path: str) -> None:
        """Answer no to the program whose id is ``target``, and do not let it wait again for some minutes."""
        program = self._approvals.not_now(request.target)
        if program is None:
            raise NotFound("that program waits no more", hint="keychain-auth watch")
        self._record(peer, path, "waiting_refuse", "", (program,))
