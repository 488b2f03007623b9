"""The daemon as a whole: the only place where the parts are put together.

Order: harden the process, settings, policy, vault, audit log, sockets. Whatever does not open stops the start with its
reason; nothing is replaced by something empty. A vault that remembers other settings ends it, too (``StartAnew``).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import structs

from keychain_auth import __version__, files
from keychain_auth.audit.verify import Report, verify
from keychain_auth.daemon.admin.canaries import CanaryCommands
from keychain_auth.daemon.admin.exchange import ExchangeCommands
from keychain_auth.daemon.admin.keychains import KeychainCommands
from keychain_auth.daemon.admin.lock import OPEN_TO_ALL, LockCommands
from keychain_auth.daemon.admin.owners import OwnerCommands
from keychain_auth.daemon.admin.restarting import RestartCommands
from keychain_auth.daemon.admin.sealing import SEALING_OPEN_TO_ALL, SealCommands
from keychain_auth.daemon.admin.secrets import SecretCommands, UsesCommands
from keychain_auth.daemon.admin.socket import AdminCommands, AdminGate
from keychain_auth.daemon.admin.vault import VaultCommands
from keychain_auth.daemon.admin.waiting import WAITING_OPEN_TO_ALL, WaitingCommands
from keychain_auth.daemon.attesting.attestation import Attestor
from keychain_auth.daemon.attesting.hasher import Hasher
from keychain_auth.daemon.attesting.launches import Launches
from keychain_auth.daemon.attesting.workers import Workers
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.locking.late_audit import LateAudit
from keychain_auth.daemon.locking.protection import Protection
from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.daemon.locking.sleep_watch import SleepWatch
from keychain_auth.daemon.places import Places
from keychain_auth.daemon.requests.approvals import Approvals
from keychain_auth.daemon.requests.bait import Bait
from keychain_auth.daemon.requests.gate import Gate
from keychain_auth.daemon.requests.pipeline import Pipeline
from keychain_auth.daemon.requests.pipelines import of_each_user
from keychain_auth.daemon.requests.refusals import Refusals
from keychain_auth.daemon.serving.server import Server
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.daemon.settings import load_settings
from keychain_auth.daemon.shares import Shares
from keychain_auth.daemon.state.audit_mark import AuditMark
from keychain_auth.daemon.state.builds_file import BuildsFile
from keychain_auth.daemon.state.canary_watch import CanaryWatch
from keychain_auth.daemon.state.owners import Owners
from keychain_auth.daemon.state.pending_file import PendingFile
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.daemon.state.policy_seal import PolicySeal
from keychain_auth.daemon.state.settings_seal import Ending, SettingsSeal, StartAnew, accepted_settings
from keychain_auth.daemon.state.uses import Uses
from keychain_auth.daemon.upkeep import own_code
from keychain_auth.daemon.upkeep.events import Events
from keychain_auth.daemon.upkeep.housekeeping import Housekeeping
from keychain_auth.daemon.upkeep.notifying import Notifier
from keychain_auth.daemon.upkeep.status import Status
from keychain_auth.errors import KeychainAuthError, PolicyFormatError, quoted
from keychain_auth.keychain.base import Keychain, Remembering
from keychain_auth.keychain.router import VAULT, Router
from keychain_auth.keychain.routes import Routes
from keychain_auth.keychain.vault import Vault
from keychain_auth.keychain.vault.format import OWN_BUILDS
from keychain_auth.platform import paths
from keychain_auth.platform.base import Readiness
from keychain_auth.platform.local import LocalPlatform, harden_process, key_memory, watch_stop
from keychain_auth.policy.parse import Policy

_STOP_SECONDS = 5.0
_RESTART = "restart"
_START_ANEW = "start anew"
_LOOKS = 4  # threads for looks at processes
_LOST_LOOKS = 32  # how many of them may be kept waiting for ever, before nobody's command line is read any more


class App:
    """One daemon. Construct it in the main thread, then ``run``."""

    def __init__(self, places: Places, journal: Journal, settings: str | None = None) -> None:
        """Open everything. ``settings``: the text to begin by; None: what the file says.

        Raises StartAnew if the vault opened and remembers other settings, KeychainAuthError.
        """
        harden_process()
        self._places = places
        self._journal = journal
        self._started = time.time()
        self._settings = load_settings(places.settings) if settings is None else accepted_settings(settings)
        if files.make_private_dir(folder := os.path.dirname(places.policy)):
            journal.warning("others could write into it until now", path=folder, mend=f"ls -l {quoted(folder)}")
        self._platform = LocalPlatform(
            frozenset(self._settings.filesystems), (places.agent_socket, places.admin_socket),
            system=paths.is_system(), guard_group=self._settings.guard_group,
        )  # fmt: skip
        try:
            self._policy_file = PolicyFile(places.policy)
        except PolicyFormatError as error:
            raise KeychainAuthError(f"{places.policy}: {error}", hint=f"edit {quoted(places.policy)}") from None
        self._policy_file.on_change = self._policy_changed
        self._builds = BuildsFile(places.builds)
        with contextlib.ExitStack() as undo:
            # The socket before the vault: a second daemon is told about the first, not about a locked file.
            self._listener = self._platform.listen(places.agent_socket)
            undo.callback(self._listener.close)
            self._admin_listener = self._platform.listen(places.admin_socket)
            undo.callback(self._admin_listener.close)
            buffer, self._key_locked = key_memory()
            self._audit = LateAudit(lambda key: self._audit_mark.open_log(key))  # noqa: PLW0108 - it is made later
            undo.callback(self._audit.close)
            self._events = Events(self._audit, journal)
            self._protection = Protection(places, self._settings.lock)
            self._safe = Safe(
                places.vault, self._protection.unattended, memoryview(buffer)[:32], self._settings.lock,
                history=lambda vault: self._settings_seal.history(vault),  # noqa: PLW0108 - it is made later
            )  # fmt: skip
            undo.callback(lambda: asyncio.run(self._safe.close()))
            self._policy_seal = PolicySeal(self._safe, self._policy_file)
            unsealed = self._events.settings_not_obeyed
            self._settings_seal = SettingsSeal(self._safe, places.settings, self._settings, unsealed)
            self._audit_mark = AuditMark(self._safe, places.audit_log, self._settings_seal, journal)
            self._safe.before_lock = self._audit_mark.keep
            self._builds.remember = functools.partial(self._safe.remember, OWN_BUILDS)
            self._uses = Uses(self._safe)
            self._sleep = SleepWatch(self._safe, self._settings.lock, journal)
            self._canaries = CanaryWatch(self._safe, journal)
            self._notifier = Notifier(journal, wanted=self._settings.notifications)
            self._safe.on_open, self._safe.on_lock = self._opened, self._locked
            self._router = self._routed()
            # The way of a request is as short as it can be: where nothing is routed, nobody looks for routes.
            alone = self._router.routes.used() == [VAULT]
            self._keychain: Keychain = self._safe if alone else self._router
            self._owners = Owners(self._safe, self._keychain)
            try:
                self._safe.open_at_start(self._protection.first())
            except StartAnew as anew:
                anew.kept = self._shared()
                raise
            undo.pop_all()

    def run(self) -> Ending:
        """Serve until SIGTERM, SIGINT, ``restart``, or until the vault says that other settings were accepted."""
        readiness = self._platform.readiness()
        with asyncio.Runner(loop_factory=readiness.new_loop) as runner:
            return runner.run(self._serve(readiness))

    async def _serve(self, readiness: Readiness) -> Ending:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._events.fault)
        limits = self._settings.limits
        host = self._platform.host()
        turn = Turn(self._audit, self._journal, self._policy_file.refresh)
        readiness.serve_by(turn.serve)
        self._hasher = Hasher(self._settings.hash_limit_bytes)
        shares = Shares(self._settings.users if host.serves_all else None)
        self._looks = Workers("look", _LOOKS, spare=_LOST_LOOKS, lost_each=shares.lost_looks)
        launches = Launches()
        attestor = Attestor(
            host, self._hasher, self._looks, limits, strict=self._settings.strict, launches=launches, shares=shares
        )
        pending = PendingFile(self._places.pending, self._journal)
        self._refusals = Refusals(turn, self._journal, self._settings.audit)
        self._bait = Bait(self._canaries, turn, self._refusals, self._journal, self._notifier.tell)
        tell = functools.partial(self._notifier.tell, urgent=False)
        wait = self._settings.wait_for_approval
        self._approvals = Approvals(self._policy_file, limits, wait, tell, shares.waiting)
        self._gate = Gate(
            attestor, self._policy_file, pending, self._builds, self._pipelines(turn), turn, self._refusals, self._bait,
            self._approvals,
        )  # fmt: skip
        self._server = Server(
            loop, readiness, turn, self._listener, self._gate, limits, self._journal, share=shares.connections
        )
        told: asyncio.Queue[str] = asyncio.Queue()
        commands = self._commands(turn, told)
        if self._platform.launches:
            launching = self._launching(turn, launches)
            commands.add(launching, launching)
        admin_gate = AdminGate(structs.replace(host, serves_all=False), commands, self._refusals, self._looks, limits)
        admin = Server(loop, readiness, turn, self._admin_listener, admin_gate, limits, self._journal, for_people=True)
        watched = (self._policy_file.refresh, self._settings_seal.refresh)
        housekeeping = Housekeeping(self._audit, watched, self._builds.mend, self._refusals, self._journal)
        restarting = RestartCommands(
            self._policy_file, self._settings_seal, commands, lambda: told.put_nowait(_RESTART)
        ).table
        if self._platform.hands_on:
            commands.add(restarting, restarting)
        watch_stop(loop, told.put_nowait)

        self._events.record("daemon_start", f"version {__version__}, pid {os.getpid()}")
        self._tell_what_is_wrong()
        own_code.watch(self._journal)
        self._server.start()
        admin.start()
        housekeeping.start()
        self._safe.start()
        self._sleep.start()
        self._audit_mark.start()
        gc.collect()
        gc.freeze()  # what was loaded stays: later collections need not look at it again
        self._journal.info("listening", socket=self._places.agent_socket, pid=os.getpid())
        self._platform.tell("READY=1")
        again = await told.get() in (_RESTART, _START_ANEW)
        kept = self._shared() if again else []
        await self._end(admin, housekeeping, pending)
        self._journal.info("restarting" if again else "stopped")
        return Ending(kept, self._settings_seal.text, again)

    def _shared(self) -> list[tuple[int, bool]]:
        """The listeners for the next daemon, on a system that hands them on."""
        listeners = (self._listener, self._admin_listener) if self._platform.hands_on else ()
        return [listener.share() for listener in listeners]

    async def _end(self, admin: Server, housekeeping: Housekeeping, pending: PendingFile) -> None:
        """Answer what was asked, save everything, close everything."""
        self._journal.info("stopping", connections=self._server.connections)
        self._approvals.stop()
        await asyncio.gather(self._server.stop(_STOP_SECONDS), admin.stop(_STOP_SECONDS))
        await self._sleep.stop()
        await self._notifier.stop()
        await self._canaries.close()
        await housekeeping.stop()
        await pending.close(_STOP_SECONDS)
        self._gate.close()
        self._hasher.close()
        self._looks.close()
        self._refusals.summarise(all_of_them=True)
        self._builds.close()
        self._events.record("daemon_stop", f"pid {os.getpid()}")
        self._audit.close()
        await self._audit_mark.stop()
        await self._router.close()
        await self._safe.close()
        self._platform.close()

    def _guarded(self) -> bool:
        """Whether people give the passphrase first. Locked is locked, whichever keychain a service lies in."""
        self._safe.require_open()
        return self._safe.guarded

    def _tell_what_is_wrong(self) -> None:
        if not self._safe.is_open:
            self._journal.warning("locked", why=self._safe.why_locked, mend="keychain-auth unlock")
        if not self._key_locked:
            self._journal.warning("the key's memory cannot be locked", why="RLIMIT_MEMLOCK is too small")

    def _routed(self) -> Router:
        """The vault, and whatever keychains daemon.toml has beside it."""
        keychains = self._settings.keychains
        routes = Routes(keychains.default, keychains.routes)
        return Router(self._safe, routes, keychains.all_stores(), answer_bytes=self._settings.limits.answer_bytes)

    def _commands(self, turn: Turn, told: asyncio.Queue[str]) -> AdminCommands:
        """What the admin socket can do. ``told``: what ends this daemon."""
        limits = self._settings.limits
        probe = self._router.probe
        commands = AdminCommands(self._audit, turn, self._refusals, probe, self._status, self._verify_audit)
        commands.guarded = self._guarded
        commands.add(SecretCommands(self._router, commands, limits, self._bait).table)
        commands.add(CanaryCommands(self._canaries, self._router, commands, limits).table)
        commands.add(WaitingCommands(self._approvals, commands).table, WAITING_OPEN_TO_ALL)
        commands.add(KeychainCommands(self._router, commands, limits).table)
        commands.add(ExchangeCommands(self._router, commands, limits, self._bait).table)
        commands.add(UsesCommands(self._uses).table, ("uses",))
        commands.add(VaultCommands(self._safe, self._router.routes, commands).table)
        seals = (self._policy_seal, self._settings_seal)
        locking = LockCommands(
            self._safe, self._protection, seals, self._router, commands, self._refusals,
            lambda: told.put_nowait(_START_ANEW),
        )  # fmt: skip
        commands.add(locking.table, OPEN_TO_ALL)
        commands.add(SealCommands(*seals, commands).table, SEALING_OPEN_TO_ALL)
        commands.add(OwnerCommands(self._owners, self._router, self._safe, commands).table)
        return commands

    def _pipelines(self, turn: Turn) -> Callable[[int], Pipeline]:
        """The pipeline of each user."""
        limits = self._settings.limits

        def pipeline(keychain: Keychain, remembering: Remembering) -> Pipeline:
            require_open = self._safe.require_open
            return Pipeline(
                keychain, turn, self._refusals, self._journal, limits, require_open, self._bait, remembering, self._uses
            )

        if not self._platform.host().serves_all:
            only = pipeline(self._keychain, self._router)
            return lambda uid: only
        return of_each_user(
            pipeline, self._keychain, self._policy_file, self._settings.users, self._safe.stored, self._owners
        )

    def _launching(self, turn: Turn, launches: Launches) -> Mapping[str, Any]:
        from keychain_auth.daemon.admin.launching import LaunchCommands, load_preludes  # noqa: PLC0415 - not on
        from keychain_auth.daemon.attesting.trees import Trees  # noqa: PLC0415 - every system, and not loaded there

        settings = self._settings
        trees = Trees(self._places.trees, self._platform.host().filesystems, settings.hash_limit_bytes)
        return LaunchCommands(
            self._platform, self._policy_file, launches, self._hasher, self._looks, turn, self._refusals,
            trees, load_preludes(), settings.limits.verify_seconds,
        ).table  # fmt: skip

    def _status(self) -> dict[str, Any]:
        return Status(
            self._places, self._started, self._server, self._policy_file, self._settings_seal, self._safe, self._router,
            self._sleep, self._canaries, self._notifier, self._audit, self._platform.rules(), self._gate.counts,
            self._key_locked,
        ).tell()  # fmt: skip

    def _verify_audit(self, head: tuple[int, str]) -> Report:
        return verify(self._places.audit_log, self._audit.key, live_head=head, marked=self._audit_mark.known)

    def _opened(self, vault: Vault) -> None:
        """The vault was opened, and nobody uses it yet. Raises StartAnew once what waited is on record."""
        self._settings_seal.opened(vault)
        vault.answer_bytes = self._settings.limits.answer_bytes
        self._audit_mark.opened(vault)
        if self._audit.open(vault.audit_key()):
            for finding in self._audit.findings:
                self._journal.error("the audit log was not in order", why=finding)
        self._settings_seal.require_running()
        self._settings_seal.refresh()
        self._policy_seal.opened(vault)
        if self._builds.opened(vault.own(OWN_BUILDS)):
            self._policy_file.generation += 1  # whoever is connected is judged anew
        self._canaries.opened(vault)
        self._uses.opened(vault)
        self._owners.opened(vault)
        gc.collect()
        gc.freeze()

    def _locked(self, why: str) -> None:
        self._router.forget()
        self._journal.info("locked", why=why)
        self._canaries.locked()
        self._events.record("lock", why)

    def _policy_changed(self, policy_file: PolicyFile, before: Policy) -> None:
        if policy_file.policy is not before or not policy_file.problem:
            self._uses.forget_others(policy_file.policy)
            self._builds.forget_others(policy_file.policy)
        self._events.policy_changed(policy_file, before)
