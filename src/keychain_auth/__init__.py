"""keychain-auth: secrets for programs, given out by who the kernel says they are.

    from keychain_auth import KeychainAuthClient

    with KeychainAuthClient() as client:
        url = client.get("AgentSecrets", "proj_123:staging:DATABASE_URL")

Everything in ``__all__`` is public and is loaded when it is first named (PEP 562): the command line, the daemon and a
program that only reads a secret do not pay for each other, nor for asyncio.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keychain_auth.client.aio import AsyncKeychainAuthClient
    from keychain_auth.client.sync import KeychainAuthClient
    from keychain_auth.errors import (
        ActionNotInPolicy,
        ApprovalPending,
        AuditUnavailable,
        CallerChanged,
        ConnectionLost,
        DaemonNotRunning,
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
    from keychain_auth.wire.client import BadAnswer, Secret, SecretInfo

__version__ = "0.1.0"

__all__ = [
    "ActionNotInPolicy",
    "ApprovalPending",
    "AsyncKeychainAuthClient",
    "AuditUnavailable",
    "BadAnswer",
    "CallerChanged",
    "ConnectionLost",
    "DaemonNotRunning",
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

_ELSEWHERE = {
    "AsyncKeychainAuthClient": "keychain_auth.client.aio",
    "BadAnswer": "keychain_auth.wire.client",
    "KeychainAuthClient": "keychain_auth.client.sync",
    "Secret": "keychain_auth.wire.client",
    "SecretInfo": "keychain_auth.wire.client",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not importlib.import_module: to load importlib costs more than all of our errors.
    module = __import__(_ELSEWHERE.get(name, "keychain_auth.errors"), fromlist=(name,))
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
