"""The client for asyncio: the same methods, to be awaited.

Contract (protocol, section "Client library"): as in ``sync``, with tasks in place of threads.
* Calls of several tasks on one client take turns, in the order in which they were made.
* A call that is cancelled, or runs out of time, closes the connection: the rest of its answer must never meet another
  request. The next call opens a new one. The error of a timeout says whether a write may have happened; after a
  cancellation nobody is left to be told.
* Nothing waits but the caller: the socket is non-blocking, and each step is small. (Parsing is one step: an answer of
  tens of megabytes holds the loop for some tenths of a second.)
* One client, one event loop.

It uses ``add_reader`` on the bare socket, not streams: the steps of an exchange are shared with the blocking client.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from keychain_auth.client import discovery
from keychain_auth.client.connection import WANT_WRITE, Connection, connect, forget_in_children
from keychain_auth.client.exchange import Exchange, checked_timeout, with_wait
from keychain_auth.errors import ConnectionLost, KeychainAuthError, RequestTimeout
from keychain_auth.wire import answers
from keychain_auth.wire import client as wire

if TYPE_CHECKING:
    from keychain_auth.client.exchange import Timeout

DEFAULT_TIMEOUT = 30.0  # seconds
_SHORTEST_PAUSE = 0.001  # seconds, while the daemon's queue of new connections is full
_LONGEST_PAUSE = 0.1
_THREAD_SECONDS = 0.1  # how long a thread waits on for what nobody wants any more (Windows)


class AsyncKeychainAuthClient:
    """A connection to the keychain-auth daemon, for the tasks of one event loop.

    ``await AsyncKeychainAuthClient.connect(...)`` gives a connected one, and so does ``async with
    AsyncKeychainAuthClient(...) as client``. Created without either, it connects at its first call.
    Arguments and errors are those of KeychainAuthClient.
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
        self._lock = asyncio.Lock()
        self._closed = False
        self._connection: Connection | None = None
        forget_in_children(self)

    @classmethod
    async def connect(
        cls,
        socket_path: str | os.PathLike[str] | None = None,
        *,
        timeout: float | None = DEFAULT_TIMEOUT,
        wait: float | str | None = None,
    ) -> Self:
        """A client that is connected. Raises DaemonNotRunning, UntrustedDaemon, RequestTimeout, InvalidRequest."""
        client = cls(socket_path=socket_path, timeout=timeout, wait=wait)
        return await client.__aenter__()

    async def send_request(self, request: Mapping[str, Any], *, timeout: Timeout = ...) -> dict[str, Any]:
        """See KeychainAuthClient.send_request."""
        return await self._ask(wire.raw(request), timeout)

    async def read(
        self,
        service: str,
        targets: str | Iterable[str],
        *,
        prefix: bool = False,
        attributes: Mapping[str, str] | None = None,
        timeout: Timeout = ...,
    ) -> list[answers.Secret]:
        """See KeychainAuthClient.read."""
        return answers.secrets(await self._ask(wire.read(service, targets, prefix, attributes), timeout))

    async def get(self, service: str, target: str, *, timeout: Timeout = ...) -> str | None:
        """The value of one secret, None if there is no such secret."""
        found = await self.read(service, (target,), timeout=timeout)
        return found[0].value if found else None

    async def write(
        self,
        service: str,
        values: Mapping[str, str],
        *,
        attributes: Mapping[str, str] | None = None,
        timeout: Timeout = ...,
    ) -> None:
        """See KeychainAuthClient.write."""
        await self._ask(wire.write(service, values, attributes), timeout)

    async def delete(
        self,
        service: str,
        targets: str | Iterable[str],
        *,
        prefix: bool = False,
        attributes: Mapping[str, str] | None = None,
        timeout: Timeout = ...,
    ) -> None:
        """See KeychainAuthClient.delete."""
        await self._ask(wire.delete(service, targets, prefix, attributes), timeout)

    async def search(
        self,
        service: str,
        prefixes: str | Iterable[str] = (),
        *,
        attributes: Mapping[str, str] | None = None,
        timeout: Timeout = ...,
    ) -> list[answers.SecretInfo]:
        """See KeychainAuthClient.search."""
        return answers.infos(await self._ask(wire.search(service, prefixes, attributes), timeout))

    async def check(self, service: str, *, timeout: Timeout = ...) -> None:
        """See KeychainAuthClient.check."""
        await self._ask(wire.check(service), timeout)

    async def close(self) -> None:
        """Close the connection, after the call that is on its way. May be called twice."""
        async with self._lock:
            self._closed = True
            self._drop()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._timeout), self._lock:
                await self._ready()
        except TimeoutError:
            raise RequestTimeout(
                f"the keychain-auth daemon accepted no connection within {self._timeout:g} s",
                hint="keychain-auth status",
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path}>"

    # --- one request ----------------------------------------------------------------------------

    async def _ask(self, call: wire.Call, timeout: Timeout) -> dict[str, Any]:
        call = call.waiting(self._patience)
        seconds = with_wait(checked_timeout(timeout, self._timeout), call)
        try:
            async with asyncio.timeout(seconds), self._lock:
                response = await self._converse(call)
        except TimeoutError:
            raise call.late(seconds or 0.0) from None
        if answers.knows_no_wait(call, response):
            self._patience = 0
            return await self._ask(call.plain(), timeout)
        return answers.successful(response)

    async def _converse(self, call: wire.Call) -> dict[str, Any]:
        exchange = Exchange(await self._ready(), call)
        try:
            return await self._run(exchange)
        except ConnectionLost:
            if not exchange.may_repeat:
                raise
        return await self._run(Exchange(await self._ready(), call))

    async def _run(self, exchange: Exchange) -> dict[str, Any]:
        try:
            while events := exchange.advance():
                await _wait(exchange.connection, events)
            response = exchange.response()
        except BaseException:  # CancelledError above all
            self._drop()
            raise
        if not exchange.reusable(response):
            self._drop()
        return response

    async def _ready(self) -> Connection:
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
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _after_fork(self) -> None:
        # Only the descriptor is closed. The loop is left alone: its epoll instance is shared with the parent, and to
        # unregister there would deafen the parent.
        self._lock = asyncio.Lock()
        self._drop()


async def _wait(connection: Connection, events: int) -> None:
    """Wait until one of ``events`` is there, however long that takes."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":  # no loop of asyncio's waits for a pipe that it did not open: a thread does, in turns
        while not await loop.run_in_executor(None, connection.wait, events, _THREAD_SECONDS):
            pass
        return
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection.socket, _wake, ready)
    if events & WANT_WRITE:
        loop.add_writer(connection.socket, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection.socket)
        if events & WANT_WRITE:
            loop.remove_writer(connection.socket)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
