"""The words of the protocol: reasons, limits, and the status that goes with each reason.

Contract: protocol sections "Responses" and "Limits". A reason is never reused for another meaning.
"""

from __future__ import annotations

import msgspec

# Reasons with status "denied": a policy said no.
PENDING_APPROVAL = "unregistered_binary_pending_approval"
SERVICE_NOT_ALLOWED = "service_not_allowed"
ACTION_NOT_IN_POLICY = "action_not_in_policy"
TARGET_NOT_ALLOWED = "target_not_allowed"
CALLER_CHANGED = "caller_changed"
SOCKET_NOT_CLOEXEC = "socket_not_cloexec"
USER_NOT_ALLOWED = "user_not_allowed"
IDENTITY_NOT_VERIFIED = "identity_not_verified"
GRANT_ENDED = "grant_ended"

# Reasons with status "error": something failed.
MALFORMED_REQUEST = "malformed_request"
INTERNAL_ERROR = "internal_error"
KEYCHAIN_LOCKED = "keychain_locked"
AUDIT_UNAVAILABLE = "audit_unavailable"
RATE_LIMITED = "rate_limited"
ANSWER_TOO_LARGE = "answer_too_large"

DENIED_REASONS = frozenset(
    (
        PENDING_APPROVAL,
        SERVICE_NOT_ALLOWED,
        ACTION_NOT_IN_POLICY,
        TARGET_NOT_ALLOWED,
        CALLER_CHANGED,
        SOCKET_NOT_CLOEXEC,
        USER_NOT_ALLOWED,
        IDENTITY_NOT_VERIFIED,
        GRANT_ENDED,
    )
)
ERROR_REASONS = frozenset(
    (MALFORMED_REQUEST, INTERNAL_ERROR, KEYCHAIN_LOCKED, AUDIT_UNAVAILABLE, RATE_LIMITED, ANSWER_TOO_LARGE)
)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what one client may send or hold (protocol, section "Limits"). Sizes in bytes, times in seconds."""

    line_bytes: int = 1024 * 1024
    value_bytes: int = 256 * 1024
    targets: int = 1000
    attribute_bytes: int = 1024 * 1024
    answer_bytes: int = 8 * 1024 * 1024
    service_chars: int = 256
    target_chars: int = 1024
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
