"""The workload's other kind: connections. A native program (``knock.c``) connects for each request and is looked at.

Only whoever is refused would need more parts than are here. The steps take turns by a byte each, so that as many passes
of the loop are counted in each run.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from typing import IO, Any

from keychain_auth.audit.log import AuditLog
from keychain_auth.daemon.attesting.attestation import Attestor
from keychain_auth.daemon.attesting.hasher import Hasher
from keychain_auth.daemon.attesting.workers import Workers
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.requests.bait import Bait
from keychain_auth.daemon.requests.gate import Gate
from keychain_auth.daemon.requests.pipeline import Pipeline
from keychain_auth.daemon.requests.refusals import Refusals
from keychain_auth.daemon.serving.server import Server
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.daemon.settings import AuditSettings
from keychain_auth.daemon.state.builds_file import BuildsFile
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.platform.linux.linux import LinuxPlatform
from keychain_auth.platform.linux.listener import UnixListener
from keychain_auth.platform.linux.readiness import Readiness
from keychain_auth.wire.messages import Limits

_SETTLED = 2.5  # seconds: a file that changed a moment ago may change again unseen, so its hash is not remembered
_RECORDS = 2  # of a connection: that it was admitted, and what was read
_HASHED_BYTES = 1 << 30
_STOP_SECONDS = 5.0


def build(folder: str) -> str:
    """The program, in ``folder``."""
    program = os.path.join(folder, "knock")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "knock.c")
    subprocess.run([os.environ.get("CC", "gcc"), "-O2", "-o", program, source], check=True)
    time.sleep(_SETTLED)
    return program


class Door:
    """The listener's side, as the daemon has it. ``nobody`` stands for what only refusals need."""

    def __init__(
        self,
        readiness: Readiness,
        platform: LinuxPlatform,
        listener: UnixListener,
        policy_file: PolicyFile,
        builds: BuildsFile,
        pipeline: Pipeline,
        turn: Turn,
        bait: Bait,
        audit: AuditLog,
        nobody: Any,
    ) -> None:
        self._audit = audit
        self._hasher, self._looks = Hasher(_HASHED_BYTES), Workers("look", 1)
        journal, limits = Journal(), Limits()
        attestor = Attestor(platform.host(), self._hasher, self._looks, limits, strict=False)
        refusals = Refusals(turn, journal, AuditSettings())
        gate = Gate(attestor, policy_file, nobody, builds, lambda _: pipeline, turn, refusals, bait, nobody)
        self._server = Server(asyncio.get_running_loop(), readiness, turn, listener, gate, limits, journal)

    async def serve(self, words: list[str], warm: int, turns: int) -> None:
        """Serve ``words``, the program ``warm`` times, and then ``turns`` times between two marks."""
        self._server.start()
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as program:
            assert program.stdin is not None and program.stdout is not None
            for _ in range(warm):
                await self._knock(program.stdin, program.stdout)
            os.ctermid()
            began = time.perf_counter()
            for _ in range(turns):
                await self._knock(program.stdin, program.stdout)
            taken = time.perf_counter() - began
            os.ctermid()
            program.stdin.close()
        print(f"connect: {taken / turns * 1e6:.2f} µs a connection, with the waiting for its program")
        await self._server.stop(_STOP_SECONDS)
        self._hasher.close()
        self._looks.close()

    async def _knock(self, order: IO[bytes], said: IO[bytes]) -> None:
        answered = self._audit.head[0] + _RECORDS
        order.write(b".")
        _expect(said, b"a")
        while self._audit.head[0] < answered:
            await asyncio.sleep(0)
        _expect(said, b"b")
        while self._server.connections:
            await asyncio.sleep(0)


def _expect(said: IO[bytes], word: bytes) -> None:
    if (byte := said.read(1)) != word:
        raise SystemExit(f"the program that connects ended or said {byte!r}")
