"""One launch of a script, from "go" to the script's first instruction: what is looked at, and by whom.

Contract: the process that asked is traced before it executes. It stands still while it is looked at, and runs on only
as what was registered; anything else is killed before its first instruction. Tracing is a matter of one thread
(ptrace(2): only the tracer may ask), so each attempt has its own, and tells the event loop.

Not promised: that what the script does afterwards was looked at. That is ``launches`` and ``trees``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable

from keychain_auth.daemon.attesting.launches import Launched, Launches, Watch
from keychain_auth.errors import LaunchRefused, quoted
from keychain_auth.identity.attest import Refusal
from keychain_auth.identity.facts import HostFacts
from keychain_auth.identity.launch import Wanted, judge_front, judge_stopped
from keychain_auth.model import Entry
from keychain_auth.platform.base import Digest, Front, Peer, PeerGone
from keychain_auth.policy.launching import MOST_SCRIPT_BYTES, SCRIPT_FD, Plan
from keychain_auth.reasons import IDENTITY_NOT_VERIFIED

_SECONDS = 10.0  # from "go" to the exec


class LaunchAttempt:
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
