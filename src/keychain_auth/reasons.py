"""Why the daemon said no: the words of the wire, each in one place.

Contract: protocol, section "Responses". A reason is never reused for another meaning. ``status`` is ``denied`` (a rule
said no) or ``error`` (something failed), by the set that the reason is in.

Plain text, and no import: the client's fast path pays nothing for it.
"""

from __future__ import annotations

# Denied.
PENDING_APPROVAL = "unregistered_binary_pending_approval"
SERVICE_NOT_ALLOWED = "service_not_allowed"
ACTION_NOT_IN_POLICY = "action_not_in_policy"
TARGET_NOT_ALLOWED = "target_not_allowed"
CALLER_CHANGED = "caller_changed"
SOCKET_NOT_CLOEXEC = "socket_not_cloexec"
USER_NOT_ALLOWED = "user_not_allowed"
IDENTITY_NOT_VERIFIED = "identity_not_verified"
GRANT_ENDED = "grant_ended"

# Errors.
MALFORMED_REQUEST = "malformed_request"
INTERNAL_ERROR = "internal_error"
KEYCHAIN_LOCKED = "keychain_locked"
AUDIT_UNAVAILABLE = "audit_unavailable"
RATE_LIMITED = "rate_limited"
ANSWER_TOO_LARGE = "answer_too_large"

DENIED = frozenset(
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
FAILED = frozenset(
    (MALFORMED_REQUEST, INTERNAL_ERROR, KEYCHAIN_LOCKED, AUDIT_UNAVAILABLE, RATE_LIMITED, ANSWER_TOO_LARGE)
)

# On the admin socket and in the audit log only: what a person gave or did not give.
WRONG_PASSPHRASE = "wrong_passphrase"  # noqa: S105 - a reason
PASSPHRASE_NEEDED = "passphrase_needed"  # noqa: S105 - a reason
