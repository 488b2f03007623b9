"""The limits of the protocol (section "Limits"). Its reasons are in ``reasons``."""

from __future__ import annotations

import msgspec

from keychain_auth.limits import LONGEST_SERVICE, LONGEST_TARGET


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what one client may send or hold (protocol, section "Limits"). Sizes in bytes, times in seconds."""

    line_bytes: int = 1024 * 1024
    value_bytes: int = 256 * 1024
    targets: int = 1000
    attribute_bytes: int = 1024 * 1024
    answer_bytes: int = 8 * 1024 * 1024
    service_chars: int = LONGEST_SERVICE
    target_chars: int = LONGEST_TARGET
    connections: int = 512
    connections_per_process: int = 64
    verifying: int = 64
    verifying_per_process: int = 8
    verify_seconds: float = 20.0
    waiting: int = 32
    waiting_per_process: int = 4
    wait_seconds: float = 300.0
    unfinished_line_seconds: float = 10.0
    idle_seconds: float = 300.0
    unread_answer_bytes: int = 8 * 1024 * 1024
