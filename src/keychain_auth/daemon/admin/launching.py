"""``keychain-auth launch``, the daemon's side: two commands of the admin socket, and one thread for each launch.

    launch         the front names a script        -> what it has to execute, and what comes before the script
    launch-ready   the front has made itself ready -> the daemon traces it, and says "go"
                   the front executes              -> it stands still; the daemon looks, remembers it, lets it run

As much as possible is looked at before "go", where a refusal still reaches the terminal. What fails afterwards is an
attack, or a file that changed within a millisecond: the process is killed before its first instruction, and log and
audit log say why.

Nothing is kept between the two commands: what has to be executed is worked out anew from the policy of the moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import keychain_auth
from keychain_auth.audit.record import AuditRecord
from keychain_auth.daemon.admin.socket import AdminRequest, Command
from keychain_auth.daemon.attesting.hasher import Hasher
from keychain_auth.daemon.attesting.launch_attempt import LaunchAttempt
from keychain_auth.daemon.attesting.launches import Launched, Launches
from keychain_auth.daemon.attesting.trees import Trees
from keychain_auth.daemon.attesting.workers import Overdue, Workers
from keychain_auth.daemon.requests.refusals import Refusals
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.errors import AuditError, KeychainAuthError, LaunchRefused, NotFound, quoted
from keychain_auth.identity.attest import Refusal, judge_script
from keychain_auth.identity.facts import HostFacts
from keychain_auth.model import Entry, Launch, Program
from keychain_auth.platform.base import Digest, FileTooLarge, Front, Peer, PeerGone, Platform
from keychain_auth.policy.launching import Preludes, loads_its_library, plan
from keychain_auth.reasons import IDENTITY_NOT_VERIFIED

_MOST_AT_ONCE = 16


def load_preludes() -> Preludes:
    """The preludes as the package has them."""
    # Not by ``importlib.resources``: it brings zipfile, tempfile and shutil along, 1.4 MiB of an idle daemon.
    texts = []
    for name in ("python.py", "node.js"):
        with open(os.path.join(os.path.dirname(keychain_auth.__file__), "boot", name), encoding="utf-8") as file:
            texts.append(file.read())
    return Preludes(*texts)


class LaunchCommands:
    """``table`` is for ``AdminCommands.add``."""

    def __init__(
        self,
        platform: Platform,
        policy_file: PolicyFile,
        launches: Launches,
        hasher: Hasher,
        looks: Workers,
        turn: Turn,
        refusals: Refusals,
        trees: Trees,
        preludes: Preludes,
        seconds: float,
    ) -> None:
        """``seconds``: how long looks at files may take."""
        self._platform = platform
        self._policy_file = policy_file
        self._launches = launches
        self._hasher = hasher
        self._looks = looks
        self._turn = turn
        self._refusals = refusals
        self._trees = trees
        self._preludes = preludes
        self._seconds = seconds
        self._under_way = 0
        self.table: Mapping[str, Command] = {"launch": self._plan, "launch-ready": self._ready}

    async def _plan(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        """What the front has to do."""
        if forbidden := self._platform.launch_forbidden():
            raise LaunchRefused(forbidden, hint="sudo sysctl kernel.yama.ptrace_scope=1")
        entry = self._entry(request.target)
        try:
            packed = await self._looks.run(partial(self._trees.packed, entry), self._seconds)
        except (LaunchRefused, Overdue) as error:
            raise self._refused(peer, entry, error) from None
        what = plan(entry, self._preludes, packed)
        return {
            "program": what.interpreter.path,
            "argv": list(what.argv),
            "prelude": what.prelude.decode(),
            "variables": what.variables,
            "daemon": os.getpid(),
        }

    async def _ready(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        """The front waits for "go"."""
        entry = self._entry(request.target)
        try:
            await self._launch(entry, peer)
        except (KeychainAuthError, PeerGone, Overdue, FileTooLarge, OSError) as error:
            raise self._refused(peer, entry, error) from None
        return {"go": True}

    async def _launch(self, entry: Entry, peer: Peer) -> None:
        """Return when the front is traced; the rest goes on in a thread."""
        if self._under_way >= _MOST_AT_ONCE:
            raise LaunchRefused(f"{_MOST_AT_ONCE} scripts are being launched already", hint="try again")
        until = time.monotonic() + self._seconds
        verified = await self._looks.run(partial(self._trees.verify, entry), self._seconds)
        what = plan(entry, self._preludes, verified.packed)
        attempt = LaunchAttempt(entry, what, self._platform.front(peer.pid), self._platform.host(), self._launches)
        self._under_way += 1
        try:
            await self._looks.run(partial(attempt.look_at_front, peer), until - time.monotonic())
            digest = await self._interpreter(attempt.front, entry, what.interpreter, until)
            attempt.watch = verified.watch
            await self._start(attempt, digest)
        finally:
            if not attempt.attended:
                self._under_way -= 1
                attempt.close()

    def _refused(self, peer: Peer, entry: Entry, error: Exception) -> LaunchRefused:
        """What the front is told, once it is on record."""
        why = _why(error)
        self._report(peer.pid, entry, why)
        return LaunchRefused(why, hint=getattr(error, "hint", ""))

    def _entry(self, path: str) -> Entry:
        self._policy_file.refresh()
        entries = self._policy_file.policy.by_path.get(path, ())
        if not entries:
            raise NotFound(f"{path} is not registered", hint=f"keychain-auth register --script {quoted(path)}")
        return next((entry for entry in entries if entry.interpreter is not None), entries[0])

    async def _interpreter(self, front: Front, entry: Entry, wanted: Program, until: float) -> Digest:
        """The digest of the interpreter, which is the one that the entry names. Raises LaunchRefused."""
        opened = await self._looks.run(partial(front.open_file, wanted.path), until - time.monotonic())
        with contextlib.closing(opened):
            if (refusal := judge_script(opened.facts, self._platform.host())) is not None:
                raise LaunchRefused(refusal.why)
            digest = await self._hasher.digest(opened.key, opened.hash, True, until - time.monotonic())
        upgrade = f"keychain-auth upgrade {quoted(entry.program.path)}"
        if digest.sha256 != wanted.sha256:
            raise LaunchRefused(f"{wanted.path} is not the interpreter that was registered with it", hint=upgrade)
        if not digest.of_root and loads_its_library(wanted) and entry.launch == Launch():
            raise LaunchRefused(f"its user can change {wanted.path}, and nothing says what it imports", hint=upgrade)
        return digest

    async def _start(self, attempt: LaunchAttempt, digest: Digest) -> None:
        loop = asyncio.get_running_loop()
        seized: asyncio.Future[None] = loop.create_future()

        def done(refusal: Refusal | None, launched: Launched | None) -> None:
            self._under_way -= 1
            self._finish(attempt, refusal, launched)

        attempt.attended = True
        work = partial(attempt.attend, digest, loop, seized, done)
        threading.Thread(target=work, name="launch", daemon=True).start()
        try:
            await seized
        except (OSError, PeerGone):
            attempt.attended = False
            raise

    def _finish(self, attempt: LaunchAttempt, refusal: Refusal | None, launched: Launched | None) -> None:
        """The thread is done. What cannot be put on record is not known."""
        attempt.close()
        recorded = self._report(attempt.front.pid, attempt.entry, refusal.why if refusal is not None else "")
        if launched is not None and not recorded:
            self._launches.forget(launched, asyncio.get_running_loop())

    def _report(self, pid: int, entry: Entry, why: str) -> bool:
        record = _record(pid, entry, self._platform.host(), why)
        if why:  # any program of the user can cause it as often as it likes
            self._refusals.record(record, "launch refused", pid=pid, path=entry.program.path, why=why)
            return True
        try:
            self._turn.record_now(record)
        except AuditError:
            return False
        return True


def _why(error: Exception) -> str:
    """What to tell about a launch that failed before "go"."""
    if isinstance(error, Overdue):
        return "its files could not be looked at in time"
    if isinstance(error, FileTooLarge):
        return f"its interpreter is too large: {error}"
    if isinstance(error, PermissionError):
        return "the kernel does not let the daemon trace it (a container's seccomp profile, or another tracer?)"
    if isinstance(error, OSError):
        return f"it cannot be looked at: {error.strerror}"
    return str(error)


def _record(pid: int, entry: Entry, host: HostFacts, why: str) -> AuditRecord:
    interpreter = entry.interpreter
    return AuditRecord(
        action="launch",
        pid=pid,
        uid=host.uid,
        binary_path=interpreter.path if interpreter else None,
        binary_hash=f"sha256:{interpreter.sha256}" if interpreter else None,
        script_path=entry.program.path,
        script_hash=f"sha256:{entry.program.sha256}",
        service=None,
        targets=(),
        result="DENIED" if why else "GRANTED",
        reason=IDENTITY_NOT_VERIFIED if why else None,
        detail=why or None,
    )
