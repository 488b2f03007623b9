"""keychain-auth: secrets for programs, given out by who the kernel says they are.

    from keychain_auth import KeychainAuthClient

    with KeychainAuthClient() as client:
        url = client.get("AgentSecrets", "proj_123:staging:DATABASE_URL")

Everything in ``__all__`` is public and is loaded when it is first named (PEP 562): the command line, the daemon and a
program that only reads a secret do not pay for each other, nor for asyncio. For type checkers the same names stand in
``__init__.pyi``: written here, even under TYPE_CHECKING, they would make every room depend on the client.
"""

from __future__ import annotations

__version__ = "0.1.0"

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

_ELSEWHERE = {
    "AsyncKeychainAuthClient": "keychain_auth.client.aio",
    "BadAnswer": "keychain_auth.wire.answers",
    "KeychainAuthClient": "keychain_auth.client.sync",
    "Secret": "keychain_auth.wire.answers",
    "SecretInfo": "keychain_auth.wire.answers",
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
