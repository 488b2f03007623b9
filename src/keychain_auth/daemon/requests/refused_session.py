"""The connection of a program that is not registered: told so, or kept waiting until a person decides.

    refused ──► first request ──► told why, the end
                    └── may wait ──► policy changes ──► verified anew ──► an admitted session, which answers it

Contract:
* A request that waited is answered by the session of a process that was verified after the policy changed, as if it had
  just connected: the looks of ``attestation``, all of them. What was known of it while it waited is for the person's
  eyes only.
* The message itself must have come from that process, all its pieces: their sender, as the kernel named him, is judged
  by the new session before anything is answered. Pieces of several senders are nobody's.
* It waits in nobody's way: the refused give way to new connections (``server``), and so does it, until it is admitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from keychain_auth.daemon.requests.approvals import Approvals, End
from keychain_auth.daemon.requests.caller import Caller
from keychain_auth.daemon.serving.handler import Answer, Handler, Reply
from keychain_auth.model import Entry, Request
from keychain_auth.platform.base import Channel, Peer, PeerGone
from keychain_auth.reasons import PENDING_APPROVAL
from keychain_auth.wire.codec import encode_reason


class RefusedSession:
    """A connection that was refused: whatever it asks first, the answer is the reason, and it is the last.

    ``ready``: what must be done before it is told.
    """

    admitted = False

    def __init__(self, reason: str, ready: asyncio.Future[None] | None = None) -> None:
        self._reply = Reply(encode_reason(reason), last=True)
        self._ready = ready

    def distrust(self, sender: int | None) -> str:
        """Anybody may hear the refusal."""
        return ""

    def respond(self, line: bytes) -> Answer:
        """The reason."""
        return self._reply if self._ready is None or self._ready.done() else self._once_ready(self._ready)

    async def _once_ready(self, ready: asyncio.Future[None]) -> Reply:
        await asyncio.shield(ready)
        return self._reply

    def impostor(self, why: str) -> Reply:
        """The reason."""
        return self._reply

    def unasked(self) -> Reply | None:
        """The reason: who only listens must hear it too."""
        return self._reply if self._ready is None or self._ready.done() else None

    def overlong(self) -> Reply:
        """The reason."""
        return self._reply

    def close(self) -> None:
        """Nothing is held."""


class StrangerSession(RefusedSession):
    """A refused connection whose first request may wait. Once it is admitted, the session that answers from then on."""

    def __init__(
        self,
        reason: str,
        ready: asyncio.Future[None] | None,
        channel: Channel,
        caller: Caller,
        approvals: Approvals,
        verify: Callable[[Peer], Awaitable[Handler]],
    ) -> None:
        """``verify``: the session of a process, judged now. It lets go of the process that is not admitted."""
        super().__init__(reason, ready)
        self._channel = channel
        self._caller = caller
        self._approvals = approvals
        self._verify = verify
        self._session: Handler | None = None
        self._sender: int | None = None  # of all pieces; None too if they had several
        self._heard = False
        self._closed = False

    @property
    def admitted(self) -> bool:  # type: ignore[override] # it changes, once
        """Whether a person let it in."""
        return self._session is not None

    def distrust(self, sender: int | None) -> str:
        """Who sends is remembered, and judged once there is something to give."""
        if self._session is not None:
            return self._session.distrust(sender)
        self._sender = sender if sender == self._sender or not self._heard else None
        self._heard = True
        return ""

    def respond(self, line: bytes) -> Answer:
        """The refusal; or what comes of waiting."""
        if self._session is not None:
            return self._session.respond(line)
        patience = self._approvals.patience(line)
        return super().respond(line) if patience is None else self._wait(line, *patience)

    def impostor(self, why: str) -> Reply:
        """See ``Handler``."""
        return self._reply if self._session is None else self._session.impostor(why)

    def unasked(self) -> Reply | None:
        """See ``Handler``."""
        return super().unasked() if self._session is None else None

    def overlong(self) -> Reply:
        """See ``Handler``."""
        return self._reply if self._session is None else self._session.overlong()

    def close(self) -> None:
        """The connection is over, whatever waits."""
        self._closed = True
        if self._session is not None:
            self._session.close()

    async def _wait(self, line: bytes, request: Request, seconds: float) -> Reply:
        if self._ready is not None:  # in the queue first: an approval takes it from there
            await asyncio.shield(self._ready)
        ticket = self._approvals.begin(self._caller, request, seconds)
        if ticket is None:
            return self._reply
        try:
            peer = self._channel.peer()
        except (PeerGone, OSError):
            self._approvals.end(ticket)
            return self._reply
        approved = False
        try:
            while not (approved or self._closed) and await self._approvals.wait(ticket, peer) is End.POLICY_CHANGED:
                entry = self._caller.entry()
                # Registered, and refused for another reason now (not sure enough, say): that one is told.
                approved = isinstance(entry, Entry) or entry.reason != PENDING_APPROVAL
        finally:
            self._approvals.end(ticket)
            if not approved:
                peer.close()
        return await self._admit(line, peer) if approved else self._reply

    async def _admit(self, line: bytes, peer: Peer) -> Reply:
        """It may be let in now: verify it, and let the session answer what it asked."""
        session = await self._verify(peer)
        if self._closed or not session.admitted:
            session.close()
            return session.impostor("")  # of a refused one: why it was refused
        self._session = session
        if why := session.distrust(self._sender):
            return session.impostor(why)
        answer = session.respond(line)
        if isinstance(answer, bytes):
            return Reply(answer)
        return answer if isinstance(answer, Reply) else await answer
