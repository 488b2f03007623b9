"""The public names as type checkers see them; ``__init__.py`` loads each when it is first named."""

from keychain_auth.client.aio import AsyncKeychainAuthClient
from keychain_auth.client.sync import KeychainAuthClient
from keychain_auth.errors import (
    ActionNotInPolicy,
    AnswerTooLarge,
    ApprovalPending,
    AuditUnavailable,
    CallerChanged,
    ConnectionLost,
    DaemonNotRunning,
    GrantEnded,
    IdentityNotVerified,
    InvalidRequest,
    KeychainAuthError,
    KeychainLocked,
    MalformedRequest,
    RateLimited,
    RequestDenied,
    RequestFailed,
    RequestRejected,
    RequestTimeout,
    ServiceNotAllowed,
    SocketNotCloexec,
    TargetNotAllowed,
    UntrustedDaemon,
    UserNotAllowed,
)
from keychain_auth.wire.answers import BadAnswer, Secret, SecretInfo

__version__: str

__all__ = [
    "ActionNotInPolicy",
    "AnswerTooLarge",
    "ApprovalPending",
    "AsyncKeychainAuthClient",
    "AuditUnavailable",
    "BadAnswer",
    "CallerChanged",
    "ConnectionLost",
    "DaemonNotRunning",
    "GrantEnded",
    "IdentityNotVerified",
    "InvalidRequest",
    "KeychainAuthClient",
    "KeychainAuthError",
    "KeychainLocked",
    "MalformedRequest",
    "RateLimited",
    "RequestDenied",
    "RequestFailed",
    "RequestRejected",
    "RequestTimeout",
    "Secret",
    "SecretInfo",
    "ServiceNotAllowed",
    "SocketNotCloexec",
    "TargetNotAllowed",
    "UntrustedDaemon",
    "UserNotAllowed",
    "__version__",
]
