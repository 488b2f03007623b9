"""The way of a request, whole: from a line to an answer.

    line -> Request -> Entry -> Decision -> look -> audit -> change -> answer

Contract:
* Every attempt is on record before it is answered. What cannot be recorded is not given out.
* All-or-nothing: the decision is about the whole request, and is made before the keychain is touched.
* A write or delete is recorded as GRANTED before it is made, and once more as ERROR if the keychain then fails: a crash
  in between leaves a record of a change that was not made, never a change without a record.
* The client learns a reason code. Causes go to the journal; values go nowhere but into the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from keychain_auth.audit.record import AuditRecord, Result
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.requests.bait import Bait
from keychain_auth.daemon.requests.caller import Caller
from keychain_auth.daemon.requests.refusals import Refusals
from keychain_auth.daemon.serving.handler import Answer, Reply
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.daemon.state.uses import Uses
from keychain_auth.errors import AuditError, KeychainError, KeychainGone, VaultLocked
from keychain_auth.keychain.base import Keychain, Look, Remembering
from keychain_auth.model import Denial, Entry, Grant, Item, Request, Temporary
from keychain_auth.policy.decide import decide, decide_stale, search_prefixes
from keychain_auth.policy.explain import explain, mend
from keychain_auth.policy.temporary import decide_temporary
from keychain_auth.reasons import (
    AUDIT_UNAVAILABLE,
    INTERNAL_ERROR,
    KEYCHAIN_LOCKED,
    MALFORMED_REQUEST,
    PENDING_APPROVAL,
    USER_NOT_ALLOWED,
)
from keychain_auth.wire import codec
from keychain_auth.wire.messages import Limits

# Of a refused request not every name is kept: who is refused must not be able to fill the log, and so end its history.
_REFUSED_TARGETS = 20
_CHANGES = frozenset(("write", "delete"))
# What one pass of the event loop does of a long answer: items that are opened (about 0.1 ms), items that become text,
# and names of one record.
_AT_ONCE = 64
_TOLD_AT_ONCE = 256
_RECORDED_AT_ONCE = 1000


class Pipeline:
    """Answers the requests of callers whose identity is known."""

    def __init__(
        self,
        keychain: Keychain,
        turn: Turn,
        refusals: Refusals,
        journal: Journal,
        limits: Limits,
        require_open: Callable[[], None],
        bait: Bait,
        remembering: Remembering | None = None,
        uses: Uses | None = None,
    ) -> None:
        """``require_open`` raises VaultLocked while nothing can be read or changed. ``uses`` counts those of grants
        that end. ``remembering`` is asked for what a keychain said lately, while it is gone.
        """
        self._uses = uses
        self._remembering = remembering
        self._keychain = keychain
        self._require_open = require_open
        self._read_now = keychain.read_now
        self._turn = turn
        self._refusals = refusals
        self._journal = journal
        self._limits = limits
        self._bait = bait
        self._canaries = bait.watch

    def answer(self, caller: Caller, line: bytes) -> Answer:
        """One request line to its answer; or, where something has to be waited for, to what will have it.

        Raises nothing.
        """
        try:
            request = codec.decode_request(line, self._limits)
        except codec.Malformed as problem:
            return self._malformed(caller, problem)
        entry = caller.entry()  # by the policy of this moment, also on a connection that is long open
        # Asked so, and not whether they are denials: msgspec's classes say yes in a fifth of the time of a no.
        if not isinstance(entry, Entry):
            return self._cut_off(caller, request, entry)
        if self._canaries.watching and (caught := self._bait.caught(caller, request)) is not None:
            return caught
        decision = decide(entry, request)
        if not isinstance(decision, Grant):
            return self._temporarily(caller, request, entry, decision)
        if request.action == "read" and request.match == "exact" and len(request.targets) <= _AT_ONCE:
            return self._read(caller, request, entry)
        return self._carry_out(caller, request, entry)

    def _temporarily(self, caller: Caller, request: Request, entry: Entry, denial: Denial) -> Answer:
        """What the entry does not allow for good, a grant that ends may allow now."""
        if not entry.temporary or self._uses is None:
            return self._denied(caller, request, denial)
        found = decide_temporary(
            entry, request, denial, now=time.time(), used=self._uses.used, requester=caller.requester
        )
        if isinstance(found, Denial):
            return self._denied(caller, request, found)
        try:
            self._require_open()  # before the use counts: a locked vault costs none
        except KeychainError as error:
            return self._unable(caller, request, error)
        number = None if found.uses is None else self._uses.count(found.id)
        return self._carry_out_once(caller, request, entry, found, number)

    async def _carry_out_once(
        self, caller: Caller, request: Request, entry: Entry, grant: Temporary, number: int | None
    ) -> Reply:
        """The use is durable, and on record by its number, before anything of it is done."""
        try:
            if number is not None and self._uses is not None:
                await self._uses.keep()
            which = "" if number is None else f"use {number} of {grant.uses}, "
            until = f"until {grant.expires_text}" if grant.expires_text else "for as long as uses are left"
            self._turn.record_now(
                caller.record(
                    "temporary", "GRANTED", request.service, request.targets, detail=f"{which}{until} ({grant.id})"
                )
            )
        except (AuditError, KeychainError) as error:
            return self._unable(caller, request, error)
        return await self._carry_out(caller, request, entry)

    def _read(self, caller: Caller, request: Request, entry: Entry) -> Answer:
        """Most requests: what lies in memory is answered at once. A coroutine costs a tenth of the whole request."""
        try:
            targets = request.targets if len(request.targets) == 1 else _once(request.targets)
            found = self._read_now(request.service, targets, request.attributes)
            if found is None:
                return self._carry_out(caller, request, entry)
            self._turn.record(caller.granted("read", request.service, request.targets))
        except (AuditError, KeychainError) as error:
            return self._unable(caller, request, error)
        return codec.encode_results(found)

    async def _carry_out(self, caller: Caller, request: Request, entry: Entry) -> Reply:
        """What was granted, whatever it is: look, audit, change, answer."""
        try:
            if request.action != "check":
                self._require_open()
            found = await self._look(request, entry)
            if self._canaries.watching and (caught := self._bait.among(caller, request, found)) is not None:
                return caught
            if len(found) > _AT_ONCE and request.action not in _CHANGES:
                record_of = partial(caller.granted, request.action, request.service)
                return Reply(await self._tell_at_length(record_of, request, found))
            record = caller.granted(request.action, request.service, _touched(request, found))
            if request.action in _CHANGES:
                self._turn.record_now(record)
                await self._change(request, found, caller.identity.subject.path)
            else:
                self._turn.record(record)
        except KeychainGone as gone:
            return await self._recall(caller, request, entry, gone)
        except (AuditError, KeychainError) as error:
            return self._unable(caller, request, error)
        return Reply(_success(request, found))

    async def _recall(self, caller: Caller, request: Request, entry: Entry, gone: KeychainGone) -> Reply:
        """The keychain is gone: what it said lately, for an entry that allows that, and marked on record."""
        decision = decide_stale(entry, request)
        if isinstance(decision, Denial):
            why = f"{gone}; {explain(decision)}" if request.action not in _CHANGES else str(gone)
            return self._failed(caller, request, gone.reason or INTERNAL_ERROR, why, mend(decision))
        look: Look = "search" if request.action == "search" else "read_prefix" if request.match == "prefix" else "read"
        names = search_prefixes(entry, request) if look == "search" else _once(request.targets)
        try:
            kept = self._remembering
            recalled = kept.recall(look, request.service, names, request.attributes) if kept is not None else None
            if recalled is None:
                why = f"{gone}; its local copy does not hold all that was asked for"
                return self._failed(caller, request, gone.reason or INTERNAL_ERROR, why)
            if self._canaries.watching and (caught := self._bait.among(caller, request, recalled.items)) is not None:
                return caught
            record_of = partial(caller.stale, request.action, request.service, age=recalled.age)
            if len(recalled.items) > _AT_ONCE:
                return Reply(await self._tell_at_length(record_of, request, list(recalled.items)))
            self._turn.record(record_of(_touched(request, recalled.items)))
            return Reply(_success(request, recalled.items))
        except (AuditError, KeychainError) as error:
            return self._unable(caller, request, error)

    async def _tell_at_length(
        self, record_of: Callable[[Sequence[str]], AuditRecord | bytes], request: Request, found: list[Item]
    ) -> bytes:
        """A long answer in parts, between which others have their turn, and with several records. Takes ``found`` away.

        After the first pause this is no part of a turn, so each record is written when it is made. Raises AuditError.
        """
        by_name = request.match == "exact" and request.action != "search"
        parts: list[bytes] = []
        names: list[str] = []
        rest = found[::-1]
        found.clear()  # each part goes as soon as it is told: to free 10,000 at once would be a pause too
        while rest:
            await asyncio.sleep(0)
            some = rest[: -_TOLD_AT_ONCE - 1 : -1]
            del rest[-_TOLD_AT_ONCE:]
            parts.append(codec.encode_items(some))
            if not by_name:
                names += [item.target for item in some]
        touched = request.targets if by_name else names
        for at in range(0, len(touched), _RECORDED_AT_ONCE):
            await asyncio.sleep(0)
            self._turn.record(record_of(touched[at : at + _RECORDED_AT_ONCE]))
        return codec.join_results(parts)

    # --- the keychain -------------------------------------------------------------------------

    def _look(self, request: Request, entry: Entry) -> Awaitable[list[Item]]:
        """What a read or search finds, and what a prefix delete is about to remove."""
        service, targets, attributes = request.service, request.targets, request.attributes
        if request.action == "read":
            if request.match == "exact":
                return self._keychain.read(service, _once(targets), attributes)
            return self._keychain.read_prefix(service, targets, attributes)
        if request.action == "search":
            return self._keychain.search(service, search_prefixes(entry, request), attributes)
        if request.action == "delete" and request.match == "prefix":
            return self._keychain.search(service, targets, attributes)
        return _nothing()

    async def _change(self, request: Request, found: Sequence[Item], program: str) -> None:
        """Make a write or delete durable: all of it, or none."""
        if request.action == "write":
            entries = list(zip(request.targets, request.values, strict=True))
            await self._keychain.write(request.service, entries, request.attributes, program)
        elif request.action == "delete":
            targets = request.targets if request.match == "exact" else [item.target for item in found]
            if targets:
                await self._keychain.delete(request.service, targets, request.attributes)

    # --- refusals -----------------------------------------------------------------------------

    def _denied(self, caller: Caller, request: Request, denial: Denial) -> Reply:
        why = explain(denial)
        self._refusals.record(
            _refusal(caller, request, "DENIED", denial.reason, why),
            "denied",
            reason=denial.reason,
            action=request.action,
            service=request.service,
            pid=caller.identity.pid,
            why=why,
            mend=mend(denial, request.service),
        )
        return Reply(codec.encode_reason(denial.reason))

    async def _cut_off(self, caller: Caller, request: Request, denial: Denial) -> Reply:
        """The program lost its entry while it was connected, or the entry now asks for more than is known of it."""
        self._denied(caller, request, denial)
        if denial.reason == PENDING_APPROVAL:
            await caller.queue()
        return Reply(codec.encode_reason(denial.reason), last=True)

    def _malformed(self, caller: Caller, problem: codec.Malformed) -> Reply:
        why = "this is HTTP: nothing of what follows is read" if problem.foreign else str(problem)
        self._refused(caller, None, "failed", MALFORMED_REQUEST, why)
        return Reply(codec.encode_reason(MALFORMED_REQUEST), last=problem.foreign)

    def _unable(self, caller: Caller, request: Request, error: AuditError | KeychainError) -> Reply:
        if isinstance(error, AuditError):
            return Reply(codec.encode_reason(AUDIT_UNAVAILABLE))
        if isinstance(error, VaultLocked):
            return self._locked(caller, request, str(error))
        if error.reason == USER_NOT_ALLOWED:
            self._refused(caller, request, "denied", USER_NOT_ALLOWED, f"{error}. Next: {error.hint}")
            return Reply(codec.encode_reason(USER_NOT_ALLOWED))
        return self._failed(caller, request, error.reason or INTERNAL_ERROR, str(error))

    def _locked(self, caller: Caller, request: Request, why: str) -> Reply:
        """A refusal like others: whoever asks a locked vault again and again is counted."""
        self._refused(caller, request, "locked", KEYCHAIN_LOCKED, why)
        return Reply(codec.encode_reason(KEYCHAIN_LOCKED))

    def _refused(self, caller: Caller, request: Request | None, event: str, reason: str, why: str) -> None:
        self._refusals.record(
            _refusal(caller, request, "DENIED" if event == "denied" else "ERROR", reason, why),
            event,
            reason=reason,
            pid=caller.identity.pid,
            path=caller.identity.subject.path,
            why=why,
        )

    def _failed(self, caller: Caller, request: Request, reason: str, why: str, mending: str = "") -> Reply:
        """Each failure has its record: it may say that a change which is on record was not made."""
        way_out = {"mend": mending} if mending else {}
        self._journal.error(
            "failed", reason=reason, pid=caller.identity.pid, path=caller.identity.subject.path, why=why, **way_out
        )
        with contextlib.suppress(AuditError):  # it gives nothing out, so it is told even if it cannot be recorded
            self._turn.record(_refusal(caller, request, "ERROR", reason, why), sync=True)
        return Reply(codec.encode_reason(reason))


def _refusal(caller: Caller, request: Request | None, result: Result, reason: str, why: str) -> AuditRecord:
    action, service, targets = "request", "", tuple[str, ...]()
    if request is not None:
        action, service, targets = request.action, request.service, request.targets
        if len(targets) > _REFUSED_TARGETS:
            why = f"{why} (of {len(targets)} targets the first {_REFUSED_TARGETS} are recorded)"
            targets = targets[:_REFUSED_TARGETS]
    return caller.record(action, result, service, targets, reason, why)


async def _nothing() -> list[Item]:
    return []


def _once(targets: tuple[str, ...]) -> tuple[str, ...]:
    """Each once: a name repeated a thousand times must not make its value so."""
    return tuple(dict.fromkeys(targets))


def _touched(request: Request, found: list[Item]) -> Sequence[str]:
    """The targets of the record: what was asked for by name, or what a search or prefix brought to light."""
    if request.action == "search" or request.match == "prefix":
        return [item.target for item in found]
    return request.targets


def _success(request: Request, found: list[Item]) -> bytes:
    if request.action in ("read", "search"):
        return codec.encode_results(found)
    return codec.encode_done()
