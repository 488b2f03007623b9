"""Peers whose every fact the test decides, and an attestor that looks at them."""

from __future__ import annotations

import asyncio
import threading
import types
import zlib
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

import msgspec

from keychain_auth.daemon.attesting.attestation import Attested, Attestor
from keychain_auth.daemon.attesting.hasher import Hasher
from keychain_auth.daemon.attesting.workers import Workers
from keychain_auth.identity.attest import LOCAL_FILESYSTEMS, Refusal
from keychain_auth.identity.facts import Code, ExecId, FileFacts, FileKey, HostFacts, Namespaces, PeerFacts, ScriptFacts
from keychain_auth.model import Signature
from keychain_auth.platform.base import Digest, Pace
from keychain_auth.policy.parse import EMPTY, Policy
from keychain_auth.wire.messages import Limits

T = TypeVar("T")
LIMITS = Limits()
KEY = FileKey(device=5, inode=6, size=7, mtime_ns=8, ctime_ns=9)
OURS = Namespaces(1, 2, 3)
FACTS = PeerFacts(
    pid=10, uid=1000, namespaces=OURS, executable=FileFacts("/usr/bin/tool", KEY, "ext4"), at_path=(5, 6),
    holds_socket=True, inheritable=False, exec_id=ExecId(11, (12,)), seccomp_filters=0, tracer=0,
    code=Code(program=True), steady=True,
)  # fmt: skip
HOST = HostFacts(1000, OURS, LOCAL_FILESYSTEMS)


class ScriptedPeer:
    """``looks`` are what each look at it shows; the last one stays."""

    pid, uid = 10, 1000

    def __init__(self, *looks: PeerFacts, digest: Digest | None = None) -> None:
        self._looks = list(looks) or [FACTS]
        self._digest = digest or Digest(KEY, "a" * 64, of_root=False, keep=True)
        self.hashed = 0
        self.connected = True
        self.hashing = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def facts(self, *, patient: bool = False) -> PeerFacts:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def hash_program(self, limit: int, pace: Pace, keys: Collection[bytes] = ()) -> Digest:
        self.hashing.set()
        self.go.wait(60)
        pace()
        self.hashed += 1
        return self._digest

    def is_connected(self) -> bool:
        return self.connected

    def command_line(self) -> tuple[str, ...]:
        return ("tool",)


class SignedPeer(ScriptedPeer):
    """Its file has a signature by ``signer``, which is found only if that key is tried."""

    def __init__(self, signer: bytes) -> None:
        super().__init__()
        self.signer = signer

    def hash_program(self, limit: int, pace: Pace, keys: Collection[bytes] = ()) -> Digest:
        plain = super().hash_program(limit, pace, keys)
        found = Signature(self.signer) if self.signer in keys else None
        return msgspec.structs.replace(plain, signature=found, tried=frozenset(keys))


class Interpreter(ScriptedPeer):
    """Runs the script ``path``; ``held`` keeps its hash waiting."""

    def __init__(self, path: str, held: bool = False) -> None:
        key = msgspec.structs.replace(KEY, inode=50)
        executable = FileFacts("/usr/bin/python3", key, "ext4")
        super().__init__(
            msgspec.structs.replace(FACTS, at_path=(5, 50), executable=executable),
            digest=Digest(key, "c" * 64, of_root=False, keep=True),
        )
        self.facts_of_script = ScriptFacts(path, "", "ext4")
        self.key = msgspec.structs.replace(KEY, inode=zlib.crc32(path.encode()))
        self.held = threading.Event()
        if not held:
            self.held.set()

    def command_line(self) -> tuple[str, ...]:
        return ("python3", self.facts_of_script.path)

    def open_script(self, word: str) -> Any:
        script = types.SimpleNamespace(key=self.key, facts=self.facts_of_script, close=lambda: None)
        script.hash = self._hash_script
        script.hashed = lambda sha256: msgspec.structs.replace(self.facts_of_script, sha256=sha256)
        return script

    def _hash_script(self, limit: int, pace: Pace) -> Digest:
        self.held.wait(60)
        return Digest(self.key, "d" * 64, of_root=False, keep=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def attested(hasher: Hasher, peer: Any, limits: Limits = LIMITS, policy: Policy = EMPTY) -> Attested | Refusal:
    looks = Workers("look", 1)
    try:
        return await Attestor(HOST, hasher, looks, limits, strict=False).attest(peer, policy)
    finally:
        looks.close()


def trusting(*keys: bytes) -> Policy:
    return msgspec.structs.replace(EMPTY, signers={key: frozenset({"own"}) for key in keys})
