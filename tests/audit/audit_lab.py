"""What the audit tests share: a key, a record, verifiers that are too naive, a forger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from keychain_auth.audit.chain import GENESIS, unseal
from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.reading import iterate
from keychain_auth.audit.record import AuditRecord
from keychain_auth.audit.verify import Problem, verify

KEY = bytes(range(32))


def make_record(target: str = "proj_123:staging:DATABASE_URL", **changes: object) -> AuditRecord:
    fields: dict[str, object] = {
        "action": "read",
        "pid": 4711,
        "binary_path": "/usr/local/bin/mytool",
        "binary_hash": "sha256:" + "ab" * 32,
        "service": "AgentSecrets",
        "targets": (target,),
        "result": "GRANTED",
        "reason": None,
    }
    return AuditRecord(**{**fields, **changes})  # type: ignore[arg-type]


def naive_numbers(path: Path) -> bool:
    """A verifier without any chain: every line is JSON and the numbers count up."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [line["seq"] for line in lines] == list(range(1, len(lines) + 1))


def naive_chain(path: Path, link: Callable[[bytes, bytes], bytes]) -> bool:
    """A verifier with a chain but no head: one file, from its first line to wherever it ends."""
    previous = GENESIS
    for line in path.read_bytes().splitlines(keepends=True):
        sealed = unseal(line)
        if sealed is None or link(previous, sealed.text) != sealed.chain:
            return False
        previous = sealed.chain
    return True


def unkeyed(previous: bytes, text: bytes) -> bytes:
    """The chain that anybody can compute."""
    return hashlib.blake2b(previous + text, digest_size=16).digest()


def rechain(lines: list[bytes], link: Callable[[bytes, bytes], bytes]) -> bytes:
    """Write the chain of all lines anew, as somebody does who can compute it."""
    previous, out = GENESIS, b""
    for line in lines:
        sealed = unseal(line)
        assert sealed is not None
        previous = link(previous, sealed.text)
        out += sealed.text + b',"chain":"' + previous.hex().encode() + b'"}\n'
    return out


def targets(path: Path) -> list[str]:
    return [line["targets"][0] for line in iterate(str(path)) if line["targets"]]  # type: ignore[index]


def notes(path: Path) -> list[tuple[object, object]]:
    return [(line["action"], line["reason"]) for line in iterate(str(path)) if line["pid"] is None]


def is_fine(path: Path, log: AuditLog | None = None) -> bool:
    report = verify(str(path), KEY, live_head=log.head if log else None)
    assert report.first_problem is None, report.first_problem
    return report.ok and not report.warnings


def first_problem(path: Path, live_head: tuple[int, str] | None = None) -> Problem:
    report = verify(str(path), KEY, live_head=live_head)
    assert not report.ok and report.first_problem is not None
    return report.first_problem


def read(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)
