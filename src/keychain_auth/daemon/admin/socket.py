"""The admin socket: the command line's way in. Same framing, its own small language.

A request is ``{"command": NAME, …}``, an answer ``{"ok": true, "result": …}`` or ``{"ok": false, "error": TEXT,
"hint": TEXT, "exit_code": N}``. Who may use it: a process of the same user, in the daemon's own namespaces.

With a passphrase set, a connection gives it first (the command ``authenticate``); only what gives nothing out, and what
asks for the passphrase itself, goes without.

What it does not promise: protection from other programs of the same user without a passphrase. With a key file such a
program can open the vault itself; docs/threat-model.md says so. Everything done here is in the audit log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any

import msgspec

from keychain_auth.audit.record import AuditRecord, Result
from keychain_auth.audit.verify import Report
from keychain_auth.daemon.attesting.workers import Overdue, Workers
from keychain_auth.daemon.locking.late_audit import LateAudit
from keychain_auth.daemon.requests.refusals import Refusals, refusal_record
from keychain_auth.daemon.requests.refused_session import RefusedSession
from keychain_auth.daemon.serving.handler import Handler, Reply, distrust
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.errors import (
    EXIT_FAILED,
    EXIT_USAGE,
    AuditError,
    KeychainAuthError,
    KeychainError,
    PassphraseNeeded,
    UsageError,
)
from keychain_auth.identity.attest import Refusal, judge_descriptor, judge_place, judge_user
from keychain_auth.identity.facts import HostFacts, PeerFacts
from keychain_auth.platform.base import Channel, NeedsThread, Peer, PeerGone
from keychain_auth.reasons import CALLER_CHANGED, IDENTITY_NOT_VERIFIED, PASSPHRASE_NEEDED
from keychain_auth.wire.messages import Limits


class AdminRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One command. Which fields it needs, the command says."""

    command: str
    service: str = ""
    target: str = ""
    value: str | None = None
    prefix: str = ""
    number: int = 0
    kind: str = ""
    passphrase: str | None = None
    new_passphrase: str | None = None
    pcrs: str = ""
    keychain: str = ""
    to: str = ""
    after: str = ""
    replace: bool = False
    dry_run: bool = False
    path: str = ""
    entries: dict[str, str] = {}
    attributes: dict[str, str] = {}
    wanted: dict[str, list[str]] = {}
    reason: str = ""


Command = Callable[[AdminRequest, Peer, str], Awaitable[Any]]
"""The request, who sent it, and the path of its program; the result goes to the command line as JSON."""


class Proof:
    """What is known about who uses a connection. ``given``: the passphrase; ``refused``: what it asked for before."""

    __slots__ = ("given", "refused")

    def __init__(self) -> None:
        self.given = False
        self.refused: AdminRequest | None = None


_RECORDED_CHARS = 1024
_AUDITED_AS = {"get": "read", "set": "write", "rm": "delete", "list": "search"}
_decode = msgspec.json.Decoder(AdminRequest).decode
_encode = msgspec.json.Encoder().encode


class AdminGate:
    """Admits this user's processes to the admin socket. See ``serving.server.Gate``."""

    def __init__(
        self, host: HostFacts, commands: AdminCommands, refusals: Refusals, looks: Workers, limits: Limits
    ) -> None:
        """``looks``: threads for looks that may take long, or never end."""
        self._host = host
        self._looks = looks
        self._seconds = limits.verify_seconds
        self._commands = commands
        self._refusals = refusals

    async def admit(self, channel: Channel) -> Handler:
        """A session, or a refusal that journal and audit log explain."""
        pid, uid = channel.peer_credentials()
        try:
            peer = channel.peer()
        except PeerGone as gone:
            return self._refuse(Refusal(IDENTITY_NOT_VERIFIED, str(gone)), pid, uid)
        facts = await self._attest(peer)
        if isinstance(facts, Refusal):
            peer.close()
            return self._refuse(facts, pid, uid)
        return AdminSession(peer, facts.executable.path, self._commands, self)

    async def _attest(self, peer: Peer) -> PeerFacts | Refusal:
        if (refusal := judge_user(peer.uid, self._host)) is not None:
            return refusal
        try:
            facts = await self._look(peer)
        except PeerGone as gone:
            return Refusal(IDENTITY_NOT_VERIFIED, str(gone))
        except Overdue:
            return Refusal(IDENTITY_NOT_VERIFIED, f"it could not be looked at within {self._seconds:g} seconds")
        if not facts.steady:
            return Refusal(IDENTITY_NOT_VERIFIED, "it replaced its program while it was being looked at")
        return judge_place(facts, self._host, own_mounts=False) or judge_descriptor(facts) or facts

    async def _look(self, peer: Peer) -> PeerFacts:
        try:
            return peer.facts()
        except NeedsThread:
            return await self._looks.run(partial(peer.facts, patient=True), self._seconds)

    def turn_away(self, channel: Channel, reason: str) -> None:
        """Too many connections of this user's own commands."""
        self._refuse(Refusal(reason, "too many connections"), *channel.peer_credentials())

    def is_known_stranger(self, pid: int) -> bool:
        """Nobody waits here: people do."""
        return False

    def _refuse(self, refusal: Refusal, pid: int, uid: int) -> RefusedSession:
        self._record("admin_connect", refusal, pid, uid)
        return RefusedSession(refusal.reason)

    def impostor(self, peer: Peer, path: str, why: str) -> None:
        """Record that a message on the admin socket was not acted on."""
        self._record("admin_request", Refusal(CALLER_CHANGED, why, path), peer.pid, peer.uid)

    def unproven(self, request: AdminRequest, peer: Peer, path: str) -> None:
        """Record that somebody wanted what only the passphrase gives, and did not give it."""
        action, service, target = _audited_as(request.command), request.service, request.target
        self._refusals.record(
            AuditRecord(
                action=f"admin_{action}", pid=peer.pid, uid=peer.uid, binary_path=path, binary_hash=None,
                service=service[:_RECORDED_CHARS], targets=(target[:_RECORDED_CHARS],), result="DENIED",
                reason=PASSPHRASE_NEEDED,
            ),
            "refused", socket="admin", reason=PASSPHRASE_NEEDED, action=action, pid=peer.pid, uid=peer.uid, path=path,
        )  # fmt: skip

    def _record(self, action: str, refusal: Refusal, pid: int, uid: int) -> None:
        self._refusals.record(
            refusal_record(action, refusal, pid, uid),
            "refused", socket="admin", reason=refusal.reason, pid=pid, uid=uid, path=refusal.path, why=refusal.why,
        )  # fmt: skip


class AdminSession:
    """One command line's connection. See ``serving.connection.Handler``."""

    admitted = True

    def __init__(self, peer: Peer, path: str, commands: AdminCommands, gate: AdminGate) -> None:
        self._gate = gate
        self._peer = peer
        self._path = path
        self._commands = commands
        self._proof = Proof()

    def distrust(self, sender: int | None) -> str:
        """As on the agent socket."""
        return distrust(self._peer.pid, sender, self._peer.runs_same_file)

    async def respond(self, line: bytes) -> Reply:
        """Run one command."""
        return Reply(await self._commands.run(line, self._peer, self._path, self._proof))

    def impostor(self, why: str) -> Reply:
        """Another process uses the connection: the end."""
        self._gate.impostor(self._peer, self._path, why)
        return Reply(_failure(KeychainAuthError(why)), last=True)

    def unasked(self) -> None:
        """It may take its time."""

    def overlong(self) -> Reply:
        """Framing is lost: the end."""
        return Reply(_failure(UsageError("the request is too long")), last=True)

    def close(self) -> None:
        """Let go of the process. One that was asked for the passphrase and never gave it is on record."""
        if self._proof.refused is not None and not self._proof.given:
            self._gate.unproven(self._proof.refused, self._peer, self._path)
        self._peer.close()


class AdminCommands:
    """What the admin socket can do.

    ``probe`` and then ``status`` are called for the daemon's state, ``verify`` (in a thread) to check the audit log
    against the head that it is given.
    """

    def __init__(
        self,
        audit: LateAudit,
        turn: Turn,
        refusals: Refusals,
        probe: Callable[[], Awaitable[None]],
        status: Callable[[], dict[str, Any]],
        verify: Callable[[tuple[int, str]], Report],
    ) -> None:
        self._audit = audit
        self._turn = turn
        self._refusals = refusals
        self._probe = probe
        self._status = status
        self._verify = verify
        self._verifying = asyncio.Lock()
        self._open_to_all = frozenset(("status", "audit-verify"))
        self.guarded: Callable[[], bool] = lambda: False
        """Whether a passphrase is set: then a connection gives it (``authenticate``) before all other commands. Raises
        VaultLocked if nothing may be done now."""
        self._table: Mapping[str, Command] = {
            "status": self._tell_status,
            "audit-verify": self._verify_audit,
        }

    def add(self, table: Mapping[str, Command], open_to_all: Collection[str] = ()) -> None:
        """Further commands, from where they are at home. ``open_to_all``: those of them that need no passphrase."""
        self._table = {**self._table, **table}
        self._open_to_all |= frozenset(open_to_all)

    async def run(self, line: bytes, peer: Peer, path: str, proof: Proof) -> bytes:
        """One command line to its answer line."""
        try:
            try:
                request = _decode(line)
                command = self._table[request.command]
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                raise UsageError("not an admin request") from None
            except KeyError:
                raise UsageError(
                    "this daemon does not know the command: is it older than the command line?",
                    hint="keychain-auth restart",
                ) from None
            if request.command not in self._open_to_all and self.guarded() and not proof.given:
                proof.refused = request
                raise PassphraseNeeded(f"{request.command} needs the passphrase", hint="keychain-auth --help")
            result = await command(request, peer, path)
            if request.command == "authenticate":
                proof.given = True
        except (KeychainError, AuditError) as error:
            self._fail(request, peer, path, error)
            return _failure(error)
        except KeychainAuthError as error:
            return _failure(error)
        return _encode({"ok": True, "result": result}) + b"\n"

    def _fail(self, request: AdminRequest, peer: Peer, path: str, error: KeychainError | AuditError) -> None:
        """On record like a refusal: whoever asks a locked vault again and again is counted."""
        record = AuditRecord(
            action=f"admin_{_audited_as(request.command)}", pid=peer.pid, uid=peer.uid, binary_path=path,
            binary_hash=None, service=request.service[:_RECORDED_CHARS], targets=(request.target[:_RECORDED_CHARS],),
            result="ERROR", reason=error.reason or "",
        )  # fmt: skip
        self._refusals.record(record, "an admin command failed", pid=peer.pid, why=error)

    async def _tell_status(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        await self._probe()
        return self._status()

    async def _verify_audit(self, request: AdminRequest, peer: Peer, path: str) -> Report:
        """One at a time: the threads that it runs in also write the pending queue."""
        async with self._verifying:
            return await asyncio.get_running_loop().run_in_executor(None, self._verify, self._audit.head)

    def record(
        self,
        peer: Peer,
        path: str,
        action: str,
        service: str,
        targets: Any,
        result: Result = "GRANTED",
        reason: str = "",
        detail: str | None = None,
    ) -> None:
        """Put an admin command on record, at once. Raises AuditError."""
        record = AuditRecord(
            action=f"admin_{action}",
            pid=peer.pid,
            uid=peer.uid,
            binary_path=path,
            binary_hash=None,
            service=service,
            targets=targets,
            result=result,
            reason=reason,
            detail=detail,
        )
        self._turn.record_now(record)


def _audited_as(command: str) -> str:
    return _AUDITED_AS.get(command, command.replace("-", "_"))


def _failure(error: KeychainAuthError) -> bytes:
    code = EXIT_USAGE if isinstance(error, UsageError) else error.exit_code or EXIT_FAILED
    answer = {"ok": False, "error": str(error), "hint": error.hint, "exit_code": code}
    if isinstance(error, PassphraseNeeded):
        answer["reason"] = PASSPHRASE_NEEDED
    return _encode(answer) + b"\n"
