"""Locking and key slots, over the admin socket.

Contract: as in ``admin.socket``: what is done is on record before it is answered. No passphrase and no recovery code
reaches a record, a log, or an error; a new recovery code is in the one answer that gives it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from keychain_auth import reasons
from keychain_auth.crypto.envelope import Protector
from keychain_auth.daemon.admin.socket import AdminCommands, AdminRequest, Command
from keychain_auth.daemon.locking.protection import Protection
from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.daemon.requests.refusals import Refusals, refusal_record
from keychain_auth.daemon.state.settings_seal import StartAnew
from keychain_auth.errors import UsageError, VaultLocked, WrongPassphrase
from keychain_auth.identity.attest import Refusal
from keychain_auth.keychain.base import Remembering
from keychain_auth.keychain.vault import Keys
from keychain_auth.platform import paths
from keychain_auth.platform.base import Peer
from keychain_auth.protectors import passphrase, recovery, tpm2
from keychain_auth.protectors.passphrase import Passphrase
from keychain_auth.protectors.recovery import RecoveryCode
from keychain_auth.protectors.strength import what_they_stop

OPEN_TO_ALL = frozenset(("unlocked", "unlock", "lock", "authenticate", "slots"))
"""Commands that need no passphrase first: they give nothing out, or take it themselves."""

AGAIN = "again"
"""What ``unlock`` answers when the daemon starts anew with other settings: ask once more."""


class Seal(Protocol):
    """``PolicySeal``, ``SettingsSeal``: what counts only as it was accepted, while a passphrase is set."""

    async def prepare(self) -> None: ...

    def close(self) -> None: ...

    async def drop(self) -> None: ...


class LockCommands:
    """``table`` is for ``AdminCommands.add``."""

    def __init__(
        self,
        safe: Safe,
        protection: Protection,
        seals: Sequence[Seal],
        remembering: Remembering,
        commands: AdminCommands,
        refusals: Refusals,
        start_anew: Callable[[], None],
    ) -> None:
        """``seals``: what is sealed while a passphrase is set. ``start_anew``: called when an unlocked vault says that
        this daemon runs by the wrong settings."""
        self._safe = safe
        self._refusals = refusals
        self._remembering = remembering
        self._protection = protection
        self._seals = seals
        self._start_anew = start_anew
        self._record = commands.record
        self.table: Mapping[str, Command] = {
            "unlocked": self._unlocked,
            "unlock": self._unlock,
            "lock": self._lock,
            "authenticate": self._authenticate,
            "slots": self._slots,
            "protect-add": self._protect_add,
            "protect-remove": self._protect_remove,
            "protect-reseal": self._protect_reseal,
            "rekey": self._rekey,
        }

    # --- open and locked ----------------------------------------------------------------------

    async def _unlocked(self, request: AdminRequest, peer: Peer, path: str) -> bool:
        return self._safe.is_open

    async def _unlock(self, request: AdminRequest, peer: Peer, path: str) -> bool | str:
        """False if it was open already; AGAIN if the answer was right, and the next daemon has to be asked."""
        if self._safe.is_open:
            return False
        answers = self._answers(request) if request.passphrase is not None else []
        try:
            await self._safe.unlock(answers)
        except WrongPassphrase:  # each has its line: an attempt takes long enough
            self._record(peer, path, "unlock", "", (), "DENIED", reasons.WRONG_PASSPHRASE)
            raise
        except StartAnew as anew:
            self._record(peer, path, "unlock", "", (), detail=str(anew))
            self._start_anew()
            return AGAIN
        except VaultLocked as error:  # takes no time
            refusal = Refusal(reasons.KEYCHAIN_LOCKED, str(error), path)
            self._refusals.record(
                refusal_record("admin_unlock", refusal, peer.pid, peer.uid),
                "refused", socket="admin", reason=refusal.reason, pid=peer.pid, uid=peer.uid, path=path,
            )  # fmt: skip
            raise
        finally:
            _forget(answers)
        self._record(peer, path, "unlock", "", ())
        return True

    async def _lock(self, request: AdminRequest, peer: Peer, path: str) -> bool:
        """False if it was locked already."""
        if not self._safe.is_open:  # and there is nothing to record: any program of the user may say it
            return False
        self._record(peer, path, "lock", "", ())
        return await self._safe.lock("by keychain-auth lock")

    async def _authenticate(self, request: AdminRequest, peer: Peer, path: str) -> None:
        """That the rest of this connection belongs to who knows the passphrase: see ``AdminCommands.run``."""
        answers = self._answers(request)
        try:
            await self._safe.prove(answers)
        except WrongPassphrase:
            self._record(peer, path, "authenticate", "", (), "DENIED", reasons.WRONG_PASSPHRASE)
            raise
        finally:
            _forget(answers)
        self._record(peer, path, "authenticate", "", ())

    def _answers(self, request: AdminRequest) -> list[Protector]:
        if request.passphrase is None:
            raise UsageError("a passphrase is needed")
        return self._protection.answers(request.passphrase)

    # --- slots --------------------------------------------------------------------------------

    async def _slots(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        kinds = self._safe.slot_kinds()
        numbers = [slot.number for slot in self._safe.vault.slots] if self._safe.is_open else range(1, len(kinds) + 1)
        return {
            "open": self._safe.is_open,
            "slots": [{"number": number, "kind": kind} for number, kind in zip(numbers, kinds, strict=True)],
            "stops": what_they_stop(kinds, own_user=paths.is_system()),
        }

    async def _protect_add(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        vault = self._safe.vault
        protector = self._protection.new(request.kind, request.new_passphrase, request.pcrs)
        first = request.kind == passphrase.KIND and not self._safe.guarded
        if first:
            for seal in self._seals:
                await seal.prepare()
        self._record(peer, path, "protect_add", "", (request.kind,))
        number = await Keys(vault).add(protector)
        if first:
            for seal in self._seals:
                seal.close()
        code = protector.text() if isinstance(protector, RecoveryCode) else None
        _forget([protector])
        return {"number": number, "kind": request.kind, "code": code}

    async def _protect_remove(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        vault = self._safe.vault
        self._record(peer, path, "protect_remove", "", (str(request.number),))
        was_guarded = self._safe.guarded
        slot = await Keys(vault).remove(request.number)
        if was_guarded and not self._safe.guarded:
            for seal in self._seals:
                await seal.drop()
        if slot.kind not in (passphrase.KIND, recovery.KIND):
            withdraw = partial(self._protection.of(slot.kind).withdraw, slot.parameters())
            await asyncio.get_running_loop().run_in_executor(None, withdraw)
        return {"number": slot.number, "kind": slot.kind}

    async def _protect_reseal(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        """A new key from the TPM for a slot that its present state does not open any more."""
        vault = self._safe.vault
        slot = next((slot for slot in vault.slots if slot.number == request.number), None)
        if slot is None or slot.kind != tpm2.KIND:
            raise UsageError(f"slot {request.number} is none of a TPM", hint="keychain-auth protect list")
        pcrs = request.pcrs or slot.parameters().get("pcrs", "")
        self._record(peer, path, "protect_reseal", "", (str(request.number),))
        await Keys(vault).renew(slot.number, self._protection.new(tpm2.KIND, None, pcrs))
        return {"number": slot.number, "kind": slot.kind, "pcrs": pcrs}

    async def _rekey(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        """Every slot goes on with the key that it has; a recovery slot gets a new code, for ours is on paper only."""
        vault = self._safe.vault
        answers = self._answers(request) if request.passphrase is not None else []
        makers: Sequence[Protector] = [RecoveryCode()] if recovery.KIND in self._safe.slot_kinds() else []
        if sum(slot.kind == recovery.KIND for slot in vault.slots) > 1:
            raise UsageError("there are several recovery codes: remove all but one", hint="keychain-auth protect list")
        self._record(peer, path, "rekey", "", ())
        try:
            self._remembering.forget()  # who changes keys wants nothing that was kept under older ones
            await Keys(vault).rekey([*self._protection.unattended(), *answers], makers)
            return {"code": next((maker.text() for maker in makers if isinstance(maker, RecoveryCode)), None)}
        finally:
            _forget([*answers, *makers])


def _forget(protectors: Sequence[Protector]) -> None:
    """Overwrite what a person answered."""
    for protector in protectors:
        if isinstance(protector, Passphrase | RecoveryCode):
            protector.forget()
