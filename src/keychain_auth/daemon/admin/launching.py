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
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from typing import Any

from keychain_auth.audit.record import AuditRecord
from keychain_auth.daemon.admin.socket import AdminRequest, Command
from keychain_auth.daemon.attesting.hasher import Hasher
from keychain_auth.daemon.attesting.launches import Launched, Launches, Watch
from keychain_auth.daemon.attesting.trees import Trees
from keychain_auth.daemon.attesting.workers import Overdue, Workers
from keychain_auth.daemon.requests.refusals import Refusals
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.errors import AuditError, KeychainAuthError, LaunchRefused, NotFound, quoted
from keychain_auth.identity.attest import Refusal, judge_script
from keychain_auth.identity.facts import HostFacts
from keychain_auth.identity.launch import Wanted, judge_front, judge_stopped
from keychain_auth.model import Entry, Launch, Program
from keychain_auth.platform.base import Digest, FileTooLarge, Front, Peer, PeerGone, Platform
from keychain_auth.policy.launching import MOST_SCRIPT_BYTES, SCRIPT_FD, Plan, Preludes, loads_its_library, plan
from keychain_auth.reasons import IDENTITY_NOT_VERIFIED

_SECONDS = 10.0  # from "go" to the exec
_MOST_AT_ONCE = 16


def load_preludes() -> Preludes:
    """The preludes as the package has them."""
    folder = resources.files("keychain_auth.boot")
    return Preludes((folder / "python.py").read_text("utf-8"), (folder / "node.js").read_text("utf-8"))


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
        attempt = _Attempt(entry, what, self._platform.front(peer.pid), self._platform.host(), self._launches)
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

    async def _start(self, attempt: _Attempt, digest: Digest) -> None:
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

    def _finish(self, attempt: _Attempt, refusal: Refusal | None, launched: Launched | None) -> None:
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


class _Attempt:
    """One launch on its way. The thread that calls ``attend`` is the tracer."""

    def __init__(self, entry: Entry, what: Plan, front: Front, host: HostFacts, launches: Launches) -> None:
        self.entry = entry
        self.front = front
        self.attended = False  # a thread has it, and calls ``done`` at its end
        self.watch: Watch | None = None
        self._plan = what
        self._host = host
        self._launches = launches
        self._script = -1
        self._script_file = (-1, -1)

    def close(self) -> None:
        """Let go of everything."""
        if self._script >= 0:
            os.close(self._script)
        self.front.close()

    def look_at_front(self, peer: Peer) -> None:
        """Is it the process that asks, alone, and does it hold the script? Raises LaunchRefused, PeerGone, OSError."""
        front = self.front
        if (refusal := judge_front(front.facts(), self._host, 0)) is not None:
            raise LaunchRefused(refusal.why)
        if not peer.runs_same_file():
            raise PeerGone("the process that asked is gone")
        self._script, self._script_file = front.open_script(SCRIPT_FD)
        size = os.fstat(self._script).st_size
        prelude = self._plan.prelude
        if size > len(prelude) + MOST_SCRIPT_BYTES:
            raise LaunchRefused(f"the script is larger than {MOST_SCRIPT_BYTES} bytes")
        content = os.pread(self._script, size, 0)
        if len(content) != size or content[: len(prelude)] != prelude:
            raise LaunchRefused("the script was not handed over as agreed")
        if hashlib.sha256(content[len(prelude) :]).hexdigest() != self.entry.program.sha256:
            raise LaunchRefused(
                f"{self.entry.program.path} is not what was registered",
                hint=f"keychain-auth upgrade {quoted(self.entry.program.path)}",
            )

    def attend(
        self,
        digest: Digest,
        loop: asyncio.AbstractEventLoop,
        seized: asyncio.Future[None],
        done: Callable[[Refusal | None, Launched | None], None],
    ) -> None:
        """The thread of one launch: trace, wait for the exec, look, remember, let go."""
        try:
            self.front.seize()
        except (OSError, PeerGone) as error:
            _tell(loop, _fail, seized, error)
            return
        _tell(loop, _succeed, seized)
        refusal: Refusal | None = Refusal(IDENTITY_NOT_VERIFIED, "a fault of the daemon's own")
        launched = None
        try:
            self.front.wait_for_exec(_SECONDS)
            refusal, launched = self._judge(digest, loop)
            if refusal is None:
                self.front.let_go()
        except PeerGone as gone:
            refusal = Refusal(IDENTITY_NOT_VERIFIED, str(gone))
        except OSError as error:
            refusal = Refusal(IDENTITY_NOT_VERIFIED, f"it cannot be looked at: {error.strerror}")
        finally:
            if refusal is not None:
                self.front.kill()
            _tell(loop, done, refusal, launched)

    def _judge(self, digest: Digest, loop: asyncio.AbstractEventLoop) -> tuple[Refusal | None, Launched | None]:
        """Look at the stopped process; if it is what it should be, remember it."""
        entry, what = self.entry, self._plan
        wanted = Wanted(
            program=what.interpreter.path,
            sha256=what.interpreter.sha256,
            argv=what.argv,
            variables=what.variables,
            script=self._script_file,
            script_fd=SCRIPT_FD,
            tracer=threading.get_native_id(),
        )
        facts = self.front.stopped_facts(SCRIPT_FD, digest)
        if (refusal := judge_stopped(facts, wanted, self._host)) is not None:
            return refusal, None
        pidfd = self.front.share_pidfd()
        launched = Launched(
            self.front.pid,
            pidfd,
            facts.exec_id,
            what.interpreter,
            entry.program,
            entry.launch,
            self.watch,
            facts.sockets,
        )
        if not self._launches.remember(launched, loop):
            os.close(pidfd)
            return Refusal(IDENTITY_NOT_VERIFIED, "too many launched scripts are running"), None
        return None, launched


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *words: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon has ended
        loop.call_soon_threadsafe(call, *words)


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


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
