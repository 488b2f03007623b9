"""What the tests of watch and approve --interactive have in common: a program that asks, and what became of it."""

from __future__ import annotations

from typing import Any

from keychain_auth.cli.commands.approving.asking import Asked, asked_from
from support.world import World

ENTRY = {
    "path": "/home/me/tool", "hash": "sha256:" + "a" * 64, "command_line": "tool --go", "user": "me", "pid": 7,
    "timestamp": "2026-05-21T12:00:00Z",
}  # fmt: skip


def asked(*wants: dict[str, Any], **more: Any) -> Asked:
    document = {
        **ENTRY, "id": "1", "grade": "user", "since": "2026-05-21T12:00:00Z", "seconds_left": 60, "connections": 1,
        "wants": [{"service": "aws", "match": "exact", "targets": ["a"], **want} for want in wants],
        "parents": [{"pid": 6, "executable": "/bin/sh", "name": "sh"}], **more,
    }  # fmt: skip
    return asked_from(document)


def entry_of(world: World, program: str) -> dict[str, Any]:
    return next(one for one in world.read_policy()["registered_binaries"] if one["path"] == program)
