"""The client that programs use: one object, one connection, one request at a time.

Contract (protocol, section "Client library"):
* ``KeychainAuthClient()``, ``send_request(dict)`` and ``close()`` are in people's programs already: their
  signatures, results and error texts do not change.
* Every error is a RuntimeError, and typed (``keychain_auth.errors``).
* Any number of threads may share a client: they take turns, and waiting for the turn counts as waiting.
* A forked child has a connection of its own, or none; never its parent's.
* The daemon closes idle connections. The next call opens a new one, and repeats by itself only what cannot have
  been carried out already.

What it does not promise: that secrets leave the memory of this process once they are read. Python's strings
are copied and freed by the interpreter, unwiped.

Nothing heavy is imported here: a program pays for the C parts of ``socket`` and ``json``, and little more.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock  # what threading.Lock is; the module around it costs 1 ms

from keychain_auth.client import discovery
from keychain_auth.client.connection import Connection, connect, forget_in_children
from keychain_auth.client.exchange import Exchange, checked_timeout, with_wait
from keychain_auth.errors import ConnectionLost, KeychainAuthError, RequestTimeout
from keychain_auth.wire import answers
from keychain_auth.wire import client as wire

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would double what this import costs
    from collections.abc import Iterable, Mapping
    from typing import Any, Self

    from keychain_auth.client.exchange import Timeout

DEFAULT_TIMEOUT = 30.0  # seconds
_SHORTEST_PAUSE = 0.001  # seconds, while the daemon's queue of new connections is full
_LONGEST_PAUSE = 0.1


class KeychainAuthClient:
    """A connection to the keychain-auth daemon, for programs and their threads.

    ``socket_path``: the daemon's socket; otherwise ``$KEYCHAIN_AUTH_SOCKET``, the user's, the system's.
    ``timeout``: seconds that a call may take from its beginning to the last byte of the answer, None for no limit; each
    method takes one of its own. ``wait``: seconds (or "60s", "5m") that a request waits on top of that for a person's
    approval, if this program is not registered yet; otherwise ``$KEYCHAIN_AUTH_WAIT``, and without both it does not.

    Raises DaemonNotRunning when nothing listens, UntrustedDaemon when somebody else does, RequestTimeout,
    InvalidRequest. Every method below also raises ConnectionLost, and RequestRejected or one of its kinds
    (ServiceNotAllowed, KeychainLocked, ...) when the daemon refuses.
    """

    def __init__(
        self,
        socket_path: str | os.PathLike[str] | None = None,
        *,
        timeout: float | None = DEFAULT_TIMEOUT,
        wait: float | str | None = None,
    ) -> None:
        self._path = discovery.find_socket_path(socket_path)
        self._timeout = checked_timeout(timeout)
        self._patience = wire.checked_wait(os.environ.get(discovery.WAIT_VARIABLE) if wait is None else wait)
        self._lock = allocate_lock()
        self._closed = False
        self._connection: Connection | None = None
        forget_in_children(self)
        try:
            self._ready(_Deadline(self._timeout))
        except TimeoutError:
            raise RequestTimeout(
                f"the keychain-auth daemon accepted no connection within {self._timeout:g} s",
                hint="keychain-auth status",
            ) from None

    def send_request(self, request: Mapping[str, Any], *, timeout: Timeout = ...) -> dict[str, Any]:
        """Send ``request`` as it is (protocol, "Requests") and return the answer (protocol, "Responses").

        Raises RequestRejected, whose text is ``Daemon rejected request: <reason>``, for every status but ``success``.
        """
        return self._ask(wire.raw(request), timeout)

    def read(
        self,
        service: str,
        targets: str | Iterable[str],
        *,
        prefix: bool = False,
        attributes: Mapping[str, str] | None = None,
        timeout: Timeout = ...,
    ) -> list[answers.Secret]:
        """The secrets named by ``targets`` (one name or several), with values and attributes.

        A name that does not exist is left out. With ``prefix`` each target is a beginning, the result is sorted by
        target, and the program needs ``can_search``. ``attributes`` keeps what has all these pairs.
        """
        return answers.secrets(self._ask(wire.read(service, targets, prefix, attributes), timeout))

    def get(self, service: str, target: str, *, timeout: Timeout = ...) -> str | None:
        """The value of one secret, None if there is no such secret."""
        found = self.read(service, (target,), timeout=timeout)
        return found[0].value if found else None

    def write(
        self,
        service: str,
        values: Mapping[str, str],
        *,
        attributes: Mapping[str, str] | None = None,
        timeout: Timeout = ...,
    ) -> None:
        """Store ``values`` (target to value) in one transaction; ``attributes`` are stored with each target.

        When it returns, all of it is durable. After ConnectionLost or RequestTimeout the text says whether it may
        have been stored.
        """
        self._ask(wire.write(service, values, attributes), timeout)

    def delete(
        self,
        service: str,
        targets: str | Iterable[str],
        *,
        prefix: bool = False,
        attributes: Mapping[str, str] | None = None,
        timeout: Timeout = ...,
    ) -> None:
        """Remove the secrets that ``read`` would return for the same arguments, in one transaction.

        Removing what does not exist succeeds.
        """
        self._ask(wire.delete(service, targets, prefix, attributes), timeout)

    def search(
        self,
        service: str,
        prefixes: str | Iterable[str] = (),
        *,
        attributes: Mapping[str, str] | None = None,
        timeout: Timeout = ...,
    ) -> list[answers.SecretInfo]:
        """Targets and attributes, never values, sorted by target; all of the service without ``prefixes``."""
        return answers.infos(self._ask(wire.search(service, prefixes, attributes), timeout))

    def check(self, service: str, *, timeout: Timeout = ...) -> None:
        """Return if this program may read, write and search ``service``; else raise the reason that applies."""
        self._ask(wire.check(service), timeout)

    def close(self) -> None:
        """Close the connection, after a call of another thread that is on its way. May be called twice."""
        with self._lock:
            self._closed = True
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path}>"

    # --- one request ----------------------------------------------------------------------------

    def _ask(self, call: wire.Call, timeout: Timeout) -> dict[str, Any]:
        call = call.waiting(self._patience)
        seconds = with_wait(checked_timeout(timeout, self._timeout), call)
        deadline = _Deadline(seconds)
        lock = self._lock  # a fork in between puts another lock in its place
        if not lock.acquire(timeout=-1 if seconds is None else seconds):
            raise call.late(seconds or 0.0)
        try:
            response = self._converse(call, deadline)
        except TimeoutError:
            raise call.late(seconds or 0.0) from None
        finally:
            lock.release()
        if answers.knows_no_wait(call, response):
            self._patience = 0
            return self._ask(call.plain(), timeout)
        return answers.successful(response)

    def _converse(self, call: wire.Call, deadline: _Deadline) -> dict[str, Any]:
        exchange = Exchange(self._ready(deadline), call)
        try:
            return self._run(exchange, deadline)
        except ConnectionLost:
            if not exchange.may_repeat:
                raise
        return self._run(Exchange(self._ready(deadline), call), deadline)

    def _run(self, exchange: Exchange, deadline: _Deadline) -> dict[str, Any]:
        connection = exchange.connection
        try:
            while events := exchange.advance():
                while not connection.wait(events, deadline.left()):
                    pass
            response = exchange.response()
        except BaseException:
            # Also for KeyboardInterrupt: the rest of this answer must never meet the next request.
            self._drop()
            raise
        if not exchange.reusable(response):
            self._drop()
        return response

    def _ready(self, deadline: _Deadline) -> Connection:
        """The connection for the next request: the open one if it is good, else a new one."""
        if self._closed:
            raise KeychainAuthError("this client is closed: create a new one")
        if self._connection is not None and self._connection.usable():
            return self._connection
        self._drop()
        pause = _SHORTEST_PAUSE
        while True:
            try:
                self._connection = connect(self._path)
                return self._connection
            except BlockingIOError:
                time.sleep(min(pause, deadline.left()))
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _after_fork(self) -> None:
        self._lock = allocate_lock()  # another thread may have held it; that thread does not exist here
        self._drop()


class _Deadline:
    """A moment in the future; None: never."""

    __slots__ = ("_at",)

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then. Raises TimeoutError when there are none."""
        if self._at is None:
            return float("inf")
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left
