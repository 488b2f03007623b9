"""The request path alone, in one process: what a profiler or an instruction counter can look at without noise.

The real parts, from the connection to the vault and the audit log, on connections whose other ends this process holds
itself; nobody is judged at accept, no other process runs. Eight connections ask, are served in one turn, and their
answers are thrown away.

``connect`` is the exception: a native program connects for each request, and is judged as any other (``knocking``).
So are changes: one connection asks for them, and others' threads have a part in the answer (``writing``).

Usage: workload.py TURNS [KIND…]       KIND: read (default), ten (ten targets), prefix (of 10), connect,
                                       write, batch, rows
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sys
import tempfile
import time
from typing import Any

import knocking
import writing

from keychain_auth.audit.log import AuditLog
from keychain_auth.daemon.attesting.attestation import Attested
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.requests.bait import Bait
from keychain_auth.daemon.requests.caller import Caller
from keychain_auth.daemon.requests.gate import Session
from keychain_auth.daemon.requests.pipeline import Pipeline
from keychain_auth.daemon.serving.connection import Connection
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.daemon.state.builds_file import BuildsFile
from keychain_auth.daemon.state.canary_watch import CanaryWatch
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.keychain.vault import open_vault
from keychain_auth.model import Grade, Identity, Program
from keychain_auth.platform.linux.linux import LinuxPlatform
from keychain_auth.platform.linux.readiness import Readiness
from keychain_auth.protectors.keyfile import KeyFile
from keychain_auth.wire.messages import Limits

CONNECTIONS = 8
SERVICE = "bench"
STORED = 1000
_RECEIVED = 65536
_WARM = 12  # turns: then the interpreter has specialised what it will
_SECONDS = 20.0  # longer answers than one part are made between turns of the loop, which does not run here
_SUCCESS = b'{"type":"RESPONSE","status":"success"'
_PATH = "/usr/local/bin/program-that-asks"
_HASH = "0123456789abcdef" * 4
_FILESYSTEMS = frozenset(("overlay", "tmpfs"))  # wherever the temporary folder lies
_REQUESTS: dict[str, dict[str, object]] = {
    "read": {"targets": ["proj_123:staging:DATABASE_URL_042"]},
    "ten": {"targets": [f"proj_123:staging:DATABASE_URL_{number:03d}" for number in range(40, 50)]},
    "prefix": {"match": "prefix", "targets": ["proj_123:staging:DATABASE_URL_04"]},
}


MARK = "ctermid"
"""A function of libc that nobody else calls: whoever counts instructions sees by it where each kind begins and ends."""


def main() -> None:
    """Set up, ask, print the time of one request of each kind."""
    turns, kinds = int(sys.argv[1]), sys.argv[2:] or ["read"]
    readiness = Readiness()
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder,
        asyncio.Runner(loop_factory=readiness.new_loop) as runner,
    ):
        runner.run(_run(readiness, folder, turns, kinds))


async def _run(readiness: Readiness, folder: str, turns: int, kinds: list[str]) -> None:
    vault = open_vault(os.path.join(folder, "vault"), [KeyFile(os.path.join(folder, "vault.key"))])
    names = [f"proj_123:staging:DATABASE_URL_{number:03d}" for number in range(STORED)]
    await vault.write(SERVICE, [(name, f"postgres://app:{name}@db.staging.example:5432/app") for name in names], {})
    await vault.place_all()  # now, and not while something else is counted
    knock = knocking.build(folder) if "connect" in kinds else ""
    audit = AuditLog.open(os.path.join(folder, "audit", "audit.log"), vault.audit_key())
    journal, limits, policy_file = Journal(), Limits(), PolicyFile(_written_policy(folder, knock))
    turn = Turn(audit, journal, policy_file.refresh)
    readiness.serve_by(turn.serve)
    builds = BuildsFile(os.path.join(folder, "builds.json"))
    nobody: Any = None  # stands for what only refusals need
    bait = Bait(CanaryWatch(nobody, journal), turn, nobody, journal, nobody)
    pipeline = Pipeline(vault, turn, nobody, journal, limits, lambda: None, bait)
    platform = LinuxPlatform(_FILESYSTEMS)
    listener = platform.listen(os.path.join(folder, "run", "agent.sock"))
    clients = []
    for _ in range(CONNECTIONS):
        client = socket.socket(socket.AF_UNIX)
        client.connect(listener.path)
        client.settimeout(_SECONDS)
        clients.append(client)
        channel = listener.accept()
        peer = channel.peer()
        peer.facts(patient=True)
        identity = Identity(Program(_PATH, _HASH), Grade.USER, peer.pid, peer.uid)
        caller = Caller(Attested(identity, ()), policy_file, nobody, builds)
        session = Session(peer, caller, pipeline, nobody, turn.looks)
        loop = asyncio.get_running_loop()
        Connection(loop, readiness, turn, channel, session, limits, 300.0, 300.0, lambda _: None).begin()
    await asyncio.sleep(0)
    for kind in kinds:
        if kind == "connect":
            door = knocking.Door(
                readiness, platform, listener, policy_file, builds, pipeline, turn, bait, audit, nobody
            )
            await door.serve([knock, listener.path, _request("read").decode()], _WARM, turns)
            continue
        if kind in writing.KINDS:
            await writing.measure(vault, clients[0], SERVICE, names, kind)
            continue
        request = _request(kind)
        _ask(readiness, clients, request, _WARM)
        os.ctermid()
        taken = _ask(readiness, clients, request, turns)
        os.ctermid()
        print(f"{kind}: {taken / turns / CONNECTIONS * 1e6:.2f} µs a request, the client's part included")
    listener.close()
    builds.close()
    platform.close()
    audit.close()
    await vault.close()
    journal.close()


def _request(kind: str) -> bytes:
    fields = {"type": "REQUEST", "action": "read", "service": SERVICE, **_REQUESTS[kind]}
    return json.dumps(fields).encode() + b"\n"


def _written_policy(folder: str, knock: str) -> str:
    programs = {_PATH: _HASH}
    if knock:
        with open(knock, "rb") as file:
            programs[os.path.realpath(knock)] = hashlib.file_digest(file, "sha256").hexdigest()
    entries = [
        {
            "path": path, "hash": f"sha256:{sha256}", "registered_at": "2026-05-21T12:00:00Z",
            "allowed_read_services": [SERVICE], "allowed_write_services": [SERVICE], "can_search": True,
        }
        for path, sha256 in programs.items()
    ]  # fmt: skip
    policy = os.path.join(folder, "config.json")
    with open(policy, "w", encoding="utf-8") as file:
        json.dump({"protocol_version": "1", "registered_binaries": entries}, file)
    os.chmod(policy, 0o600)
    return policy


def _ask(readiness: Readiness, clients: list[socket.socket], request: bytes, turns: int) -> float:
    began = time.perf_counter()
    for _ in range(turns):
        for client in clients:
            client.send(request)
        readiness.select(0)
        for client in clients:
            answer = client.recv(_RECEIVED)
            if not answer.startswith(_SUCCESS):
                raise SystemExit(f"not an answer to count: {answer!r}")
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
