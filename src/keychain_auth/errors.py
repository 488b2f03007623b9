"""One tree of errors: every failure that a program or a person can meet.

Contract:
* Every error is a ``RuntimeError``, because programs written against the published client class
  catch exactly that (protocol, section "Client library").
* ``reason`` is the wire reason (protocol, section "Responses") where the error has one, else None.
* ``exit_code`` is what the command line ends with.
* ``hint`` is the command that mends it, or an empty string.
* No error carries a secret: messages name services, targets, paths and fields, never values.

This module imports nothing but ``reasons``, so that the client's fast path pays nothing for it.
"""

from __future__ import annotations

from keychain_auth import reasons

# Exit codes of every command (protocol, section "Administration").
EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DENIED = 3
EXIT_NOT_RUNNING = 4
EXIT_LOCKED = 5
EXIT_NOT_FOUND = 6

NOT_RUNNING_MESSAGE = "keychain-auth daemon is not running. Start it with: keychain-auth start"


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-")


def quoted(word: str) -> str:
    """``word`` as a shell takes it for one: names in a hint are pasted, whoever chose them.

    What ``shlex.quote`` does, without its imports.
    """
    if word and _PLAIN.issuperset(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


# They have no picture, or a blank one, though Unicode calls them letters, marks or symbols: by one of them a name would
# look just like another (Default_Ignorable_Code_Point; the fillers of Hangul, the empty pattern of Braille).
_UNSEEN = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, *range(0xFE00, 0xFE10),
              0xFFA0, 0x1D159, *range(0xE0100, 0xE01F0)))
)  # fmt: skip


def printable(text: object, keep: str = "") -> str:
    """``text``, with what is not printable or cannot be seen as an escape (``\\x1b``), but for what is in ``keep``."""
    shown = str(text)
    if shown.isprintable() and (shown.isascii() or _UNSEEN.isdisjoint(shown)):
        return shown
    return "".join(
        char if (char.isprintable() and char not in _UNSEEN) or char in keep
        else char.encode("unicode_escape").decode("ascii")
        for char in shown
    )  # fmt: skip


# What a person does about a refusal. Fixed texts: nothing that a request holds can get into them.
HINTS = {
    reasons.PENDING_APPROVAL: "keychain-auth list-pending; then approve it (or register it)",
    reasons.SERVICE_NOT_ALLOWED: "keychain-auth authorize PROGRAM SERVICE; keychain-auth list shows what it may do",
    reasons.ACTION_NOT_IN_POLICY: "keychain-auth authorize PROGRAM SERVICE --search",
    reasons.TARGET_NOT_ALLOWED: "keychain-auth list shows the targets that the program may use",
    reasons.CALLER_CHANGED: "connect anew, in the process that asks; keychain-auth audit tail says why",
    reasons.SOCKET_NOT_CLOEXEC: "open the socket with SOCK_CLOEXEC, and connect and ask in the same process",
    reasons.USER_NOT_ALLOWED: "run the program as the user of the daemon, or start a daemon for this user",
    reasons.IDENTITY_NOT_VERIFIED: "start a script with keychain-auth launch; keychain-auth audit tail says why",
    reasons.GRANT_ENDED: "keychain-auth authorize PROGRAM SERVICE --for 10m; keychain-auth list shows what is left",
    reasons.MALFORMED_REQUEST: "mend the request: docs/protocol.md says what the daemon accepts",
    reasons.INTERNAL_ERROR: "keychain-auth status; the daemon's log says why",
    reasons.KEYCHAIN_LOCKED: "keychain-auth unlock",
    reasons.AUDIT_UNAVAILABLE: "keychain-auth status; the daemon's log says why, often the disk is full",
    reasons.ANSWER_TOO_LARGE: "ask for fewer targets, or for a longer prefix",
    reasons.RATE_LIMITED: "close connections that are not needed (or remove secrets), and try again in a second",
}


class KeychainAuthError(RuntimeError):
    """Base of all errors of this package."""

    reason: str | None = None
    exit_code: int = EXIT_FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class LaunchRefused(KeychainAuthError):
    """The daemon does not let this script be launched. The message says why."""

    exit_code = EXIT_DENIED


# --- what a client can meet -------------------------------------------------------------------


class DaemonNotRunning(KeychainAuthError):
    """Nothing listens on the socket. The message is fixed by the protocol."""

    exit_code = EXIT_NOT_RUNNING

    def __init__(self, message: str = NOT_RUNNING_MESSAGE) -> None:
        super().__init__(message)


class UntrustedDaemon(KeychainAuthError):
    """Something listens, but it is not this user's daemon (nor root's). Nothing was sent to it."""


class ConnectionLost(KeychainAuthError):
    """The stream ended before, or in the middle of, an answer; a write may or may not have happened."""


class RequestTimeout(KeychainAuthError):
    """No complete answer within the time that the caller allowed."""


class InvalidRequest(KeychainAuthError, ValueError):
    """The client library refused to send this: the daemon would call it malformed."""

    reason = reasons.MALFORMED_REQUEST
    exit_code = EXIT_USAGE


class RequestRejected(KeychainAuthError):
    """The daemon answered ``denied`` or ``error``.

    ``response`` is the answer as a dict (it never holds a value), ``reason`` its reason code. The text is fixed by the
    protocol; ``hint`` says more, and so does a traceback, where it stands as a note (PEP 678).
    """

    def __init__(self, reason: str, response: dict[str, object] | None = None) -> None:
        super().__init__(f"Daemon rejected request: {reason}", hint=HINTS.get(reason, ""))
        if self.hint:
            self.add_note(f"Next: {self.hint}")
        self.reason = reason
        self.response = response if response is not None else {}


class RequestDenied(RequestRejected):
    """A policy said no (status ``denied``)."""

    exit_code = EXIT_DENIED


class ApprovalPending(RequestDenied):
    """This program is not registered yet; it now waits in ``keychain-auth list-pending``."""


class ServiceNotAllowed(RequestDenied):
    """The service is not in this program's read or write list."""


class ActionNotInPolicy(RequestDenied):
    """Searching and prefix access need ``can_search``."""


class TargetNotAllowed(RequestDenied):
    """The entry limits its targets, and one of these is outside."""


class GrantEnded(RequestDenied):
    """A temporary grant allowed this, and its time is over or its uses are used up."""


class CallerChanged(RequestDenied):
    """The message came from another process than the one that connected."""


class SocketNotCloexec(RequestDenied):
    """The program opened its descriptor inheritable; open it with SOCK_CLOEXEC."""


class UserNotAllowed(RequestDenied):
    """The caller runs as another user than this daemon serves."""


class IdentityNotVerified(RequestDenied):
    """The daemon could not establish which program this is; its log says which rule did not hold."""


class RequestFailed(RequestRejected):
    """Something failed on the daemon's side (status ``error``)."""


class MalformedRequest(RequestFailed):
    """The daemon could not accept the request as written."""


class KeychainLocked(RequestFailed):
    """The vault is sealed and nobody has unlocked it yet."""

    exit_code = EXIT_LOCKED


class AnswerTooLarge(RequestFailed):
    """What was asked for is more than one answer may hold; ask for fewer targets, or a longer prefix."""


class AuditUnavailable(RequestFailed):
    """The audit log cannot be written, so nothing is given out."""


class RateLimited(RequestFailed):
    """This caller, or its user, has as much as it may have: of connections, or of what is stored."""


_BY_REASON: dict[str, type[RequestRejected]] = {
    reasons.PENDING_APPROVAL: ApprovalPending,
    reasons.SERVICE_NOT_ALLOWED: ServiceNotAllowed,
    reasons.ACTION_NOT_IN_POLICY: ActionNotInPolicy,
    reasons.TARGET_NOT_ALLOWED: TargetNotAllowed,
    reasons.GRANT_ENDED: GrantEnded,
    reasons.CALLER_CHANGED: CallerChanged,
    reasons.SOCKET_NOT_CLOEXEC: SocketNotCloexec,
    reasons.USER_NOT_ALLOWED: UserNotAllowed,
    reasons.IDENTITY_NOT_VERIFIED: IdentityNotVerified,
    reasons.MALFORMED_REQUEST: MalformedRequest,
    reasons.KEYCHAIN_LOCKED: KeychainLocked,
    reasons.AUDIT_UNAVAILABLE: AuditUnavailable,
    reasons.RATE_LIMITED: RateLimited,
    reasons.ANSWER_TOO_LARGE: AnswerTooLarge,
}


def rejection(response: dict[str, object]) -> RequestRejected:
    """The typed error for an answer whose status is not ``success``.

    A reason that this version does not know still gives RequestDenied or RequestFailed.
    """
    reason = response.get("reason")
    name = reason if isinstance(reason, str) else "unknown"
    fallback = RequestDenied if response.get("status") == "denied" else RequestFailed
    return _BY_REASON.get(name, fallback)(name, response)


# --- what the daemon and the command line can meet --------------------------------------------


class UsageError(KeychainAuthError):
    """The command was called with words that do not fit."""

    exit_code = EXIT_USAGE


class NotFound(KeychainAuthError):
    """What the command names does not exist."""

    exit_code = EXIT_NOT_FOUND


class UnsafeFile(KeychainAuthError):
    """A file or folder that others can write, or that is not what it should be."""


class PolicyFormatError(KeychainAuthError):
    """config.json does not say what it must; ``line`` is 1-based, ``field`` a JSON path."""

    def __init__(self, problem: str, *, line: int, field: str) -> None:
        super().__init__(f"line {line}, {field}: {problem}")
        self.problem = problem
        self.line = line
        self.field = field


class DaemonAlreadyRunning(KeychainAuthError):
    """Another daemon answers on this socket; ``pid`` is its process id."""

    def __init__(self, socket_path: str, pid: int) -> None:
        end = f"; to start another, end that one first: kill {pid}" if pid > 0 else ""
        super().__init__(
            f"another keychain-auth daemon (pid {pid}) already listens on {socket_path}",
            hint=f"nothing, if it is the one that you want (keychain-auth status){end}",
        )
        self.pid = pid


class AuditError(KeychainAuthError):
    """The audit log cannot be opened or written."""

    reason = reasons.AUDIT_UNAVAILABLE


class KeychainError(KeychainAuthError):
    """The storage behind the daemon failed; the client sees ``internal_error``."""

    reason = reasons.INTERNAL_ERROR


class KeychainGone(KeychainError):
    """The storage is elsewhere, and does not answer. It may be back at any time."""


class AnswerExceedsLimit(KeychainError):
    """More was found than one answer may hold. Nothing of it is answered."""

    reason = reasons.ANSWER_TOO_LARGE


class ValueNotText(KeychainError):
    """Another program stored a value that is not UTF-8 text: no answer can hold it."""


class CollectionLocked(KeychainError):
    """A collection of the desktop's keyring is locked, and only a person can open it."""

    reason = reasons.KEYCHAIN_LOCKED
    exit_code = EXIT_LOCKED


class VaultError(KeychainError):
    """The vault does not open; it is never replaced by an empty one."""


class VaultDamaged(VaultError):
    """The vault file is truncated, altered, or does not authenticate."""


class VaultKeyMissing(VaultError):
    """No slot of the vault could be opened with what is at hand."""


class VaultLocked(VaultError):
    """The vault is sealed, and only a person can open it."""

    reason = reasons.KEYCHAIN_LOCKED
    exit_code = EXIT_LOCKED


class WrongPassphrase(KeychainAuthError):
    """A passphrase or recovery code that opens no slot."""

    exit_code = EXIT_DENIED


class TooManyGuesses(KeychainAuthError):
    """More passphrases are being tried at once than anybody needs."""


class PassphraseNeeded(KeychainAuthError):
    """This command is only for who knows the passphrase."""

    exit_code = EXIT_LOCKED


class VaultInUse(VaultError):
    """Another process holds this vault."""
