"""The command line's side of the admin socket: one command, one answer, one connection.

Contract:
* The listener is looked at before a byte is sent (``trust``): a secret that a person types goes to a daemon of the
  same user, or of root, or nowhere.
* An answer may have any length; it is complete at its newline. What the daemon refused is raised as the error it
  named, with its exit code and the command that mends it.
* No error raised here holds a value.

Only the standard library: ``keychain-auth get`` comes through here.
"""

from __future__ import annotations

import _socket as sockets
import os
import time

from keychain_auth import errors, reasons
from keychain_auth.client import discovery
from keychain_auth.client.connection import WANT_READ, WANT_WRITE, Connection, connect
from keychain_auth.wire import quick_json

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would double what this import costs
    from typing import Any

_NO_SIGNAL = getattr(sockets, "MSG_NOSIGNAL", 0)  # Windows knows no SIGPIPE
DEFAULT_TIMEOUT = 30.0  # seconds
_PAUSE = 0.005  # seconds, while the daemon's queue of new connections is full
_CHUNK = 256 * 1024


def ask(
    command: str,
    *,
    socket: str | os.PathLike[str] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    **fields: object,
) -> Any:
    """The daemon's result for ``command`` with its ``fields`` (docs/protocol.md, "Administration").

    ``socket``: path of the agent socket, as everywhere; the admin socket is its neighbour. ``timeout``: seconds.

    Where a passphrase is set and the command needs it, a person is asked for it on the terminal, or it comes from the
    descriptor that ``passphrase.use_descriptor`` named.

    Raises DaemonNotRunning, UntrustedDaemon, ConnectionLost, RequestTimeout, InvalidRequest, RequestRejected,
    PassphraseNeeded if nobody can be asked, or KeychainAuthError with the daemon's words.
    """
    line = _line({"command": command, **fields})
    with Conversation(socket=socket, timeout=timeout) as conversation:
        return conversation.exchange(line)


class Conversation:
    """Several commands on one connection. ``timeout``: seconds for all of them together. Raises as ``ask``."""

    def __init__(self, *, socket: str | os.PathLike[str] | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        path = discovery.admin_socket_path(discovery.find_socket_path(socket))
        self._connection = _connect(path, self._deadline, timeout)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def fileno(self) -> int:
        """The connection's descriptor."""
        return self._connection.socket.fileno()

    def ask(self, command: str, **fields: object) -> Any:
        """The daemon's result for ``command``."""
        return self.exchange(_line({"command": command, **fields}))

    def exchange(self, line: bytes) -> Any:
        """The same for a line that is made already."""
        try:
            return self._exchange(line)
        except errors.PassphraseNeeded:
            from keychain_auth.client import passphrase  # noqa: PLC0415 - only where a passphrase is set

            words = passphrase.present()
        self._deadline = time.monotonic() + self._timeout  # a person has as long as it takes
        self._exchange(_line({"command": "authenticate", "passphrase": words}))
        return self._exchange(line)

    def _exchange(self, line: bytes) -> Any:
        return _result(_exchange(self._connection, line, self._deadline, self._timeout))


def _line(message: dict[str, object]) -> bytes:
    try:
        return (quick_json.dumps(message) + "\n").encode()
    except UnicodeEncodeError:  # it would carry the value along: raised below, outside of the handler
        pass
    raise errors.InvalidRequest("names and values are text in UTF-8, and one of these is not")


def _connect(path: str, deadline: float, timeout: float) -> Connection:
    while True:
        try:
            return connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _late(timeout) from None
            time.sleep(_PAUSE)


def _exchange(connection: Connection, line: bytes, deadline: float, timeout: float) -> bytes:
    """Send ``line``, return the answer's line. A refusal that comes before all is sent is read nevertheless."""
    unsent = memoryview(line)
    chunks: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not connection.wait(WANT_READ | WANT_WRITE if unsent else WANT_READ, left):
            raise _late(timeout)
        if unsent:
            unsent = _send(connection.socket, unsent)
        chunk = _receive(connection.socket)
        if chunk is None:
            continue
        chunks.append(chunk)
        if b"\n" in chunk:
            return b"".join(chunks).partition(b"\n")[0]
        if not chunk:
            raise errors.ConnectionLost(
                "the keychain-auth daemon closed the connection before it had answered; read back what the command "
                "changes before repeating it",
                hint="keychain-auth status",
            )


def _send(stream: sockets.socket, unsent: memoryview) -> memoryview:
    try:
        return unsent[stream.send(unsent, _NO_SIGNAL) :]
    except BlockingIOError:
        return unsent
    except OSError:  # it closed: what it said before that can still be read
        return unsent[len(unsent) :]


def _receive(stream: sockets.socket) -> bytes | None:
    """The next bytes, b"" at the end of the stream, None when there is nothing yet."""
    try:
        return stream.recv(_CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _result(line: bytes) -> Any:
    try:
        answer = quick_json.loads(line.decode())
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        if answer.get("ok") is True:
            return answer.get("result")
        if answer.get("ok") is False:
            raise _refusal(answer)
        if answer.get("type") == "RESPONSE":  # turned away at the door, in the words of the agent socket
            raise errors.rejection(answer)
    raise errors.KeychainAuthError("the daemon's answer is not one of its admin socket", hint="keychain-auth status")


def _refusal(answer: dict[str, Any]) -> errors.KeychainAuthError:
    message, hint, code = answer.get("error"), answer.get("hint"), answer.get("exit_code")
    kind = errors.PassphraseNeeded if answer.get("reason") == reasons.PASSPHRASE_NEEDED else errors.KeychainAuthError
    error = kind(str(message), hint=hint if isinstance(hint, str) else "")
    error.exit_code = code if isinstance(code, int) and 0 < code < 128 else errors.EXIT_FAILED
    return error


def _late(timeout: float) -> errors.RequestTimeout:
    return errors.RequestTimeout(
        f"the keychain-auth daemon gave no complete answer within {timeout:g} s", hint="keychain-auth status"
    )
