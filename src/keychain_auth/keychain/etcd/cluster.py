"""Asking a cluster of etcd: its JSON gateway over HTTPS, one member after the other until one answers.

Contract:
* ``call`` answers by its deadline, or raises Unavailable then. A member is given ``attempt_seconds`` for an answer.
* The member that answered last is asked first. One that did not is left alone for a while that doubles, with chance
  in it, as long as others are there.
* When no member answered until a deadline, the circuit is open for ``rest_seconds``: whoever asks is refused at once.
  The first one afterwards tries each member once.
* A request may reach the cluster more than once. So it must be one that does no harm the second time.
* Only members whose certificate ``ca`` signed for their host are talked to (TLS 1.2 or later). Certificates that are
  replaced on disk are used for the next connection.

Used by several threads at the same time; each request has a connection of its own while it lasts.
"""

from __future__ import annotations

import http.client
import os
import random
import ssl
import threading
import time
from urllib.parse import urlsplit

import msgspec

from keychain_auth.errors import KeychainAuthError, KeychainError, KeychainGone

_MOST_BYTES = 64 * 1024 * 1024
_LONGEST_REST = 8.0  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two rounds through all members
# What may be over in a moment (grpc's codes): deadline exceeded, internal, unavailable - no leader, one that changed.
_PASSING = {4, 13, 14}


class Unavailable(KeychainGone):
    """No member answered. ``sent``: the request may have been carried out all the same."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message, hint="look at the members: etcdctl endpoint health")
        self.sent = sent


class Refused(KeychainError):
    """The cluster says no, and would say it again. ``code`` is grpc's. ``sent``: as in Unavailable, an earlier time."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(f"the cluster refused: {message}")
        self.code = code
        self.sent = False


class _Trouble(Exception):
    """One member did not answer; another one may."""


class _Complaint(msgspec.Struct):
    error: str = ""
    message: str = ""
    code: int = 0


class Identity:
    """Who the members are, and who we are: ``ca``, ``certificate`` and ``key`` are paths of PEM files."""

    def __init__(self, ca: str, certificate: str, key: str) -> None:
        """Raises KeychainAuthError if one of them cannot be used."""
        self._paths = (ca, certificate, key)
        self._seen = self._stamp()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """For a new connection."""
        stamp = self._stamp()
        if stamp != self._seen:
            try:
                self._context = self._load()
                self._seen = stamp
            except KeychainAuthError:  # half replaced: the old ones are good until the new ones are whole
                pass
        return self._context

    def _load(self) -> ssl.SSLContext:
        ca, certificate, key = self._paths
        try:
            context = ssl.create_default_context(cafile=ca)
            # An encrypted key would ask for its passphrase in somebody's terminal.
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            problem = error.strerror or str(error)
        else:
            return context
        raise KeychainAuthError(
            f"cannot use the certificates of the cluster ({ca}, {certificate}, {key}): {problem}",
            hint="edit daemon.toml: ca, certificate, certificate_key (PEM, the key without a passphrase)",
        )

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        found = []
        for path in self._paths:
            try:
                info = os.stat(path)
            except OSError:
                found.append((0, 0))
            else:
                found.append((info.st_ino, info.st_mtime_ns))
        return tuple(found)


class _Member:
    """One endpoint, and its connections that nobody uses now."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/"):
            raise KeychainAuthError(f"{endpoint!r} is no endpoint: https://HOST:PORT", hint="edit daemon.toml")
        self.host, self.port = parts.hostname, parts.port or 2379
        self.idle: list[http.client.HTTPSConnection] = []
        self.failures = 0
        self.rests_until = 0.0


class Cluster:
    """``endpoints``: of all members, as ``https://HOST:PORT``. Raises KeychainAuthError if one is none."""

    def __init__(
        self, endpoints: tuple[str, ...], identity: Identity, *, attempt_seconds: float, rest_seconds: float
    ) -> None:
        self._members = [_Member(endpoint) for endpoint in endpoints]
        if not self._members:
            raise KeychainAuthError("a cluster has endpoints, and none is named", hint="edit daemon.toml: endpoints")
        random.shuffle(self._members)  # so that a fleet does not ask one member only
        self._identity = identity
        self._attempt_seconds = attempt_seconds
        self._rest_seconds = rest_seconds
        self._lock = threading.Lock()
        self._first = self._members[0]
        self._open_until = 0.0
        self._trying = False  # the circuit was open, and nothing has answered since
        self._closed = False

    @property
    def answers(self) -> bool:
        """Has a member answered since all of them failed?"""
        return not self._trying

    def call(self, path: str, body: bytes, deadline: float) -> tuple[bytes, bool]:
        """The body of the answer to POST ``path``, and whether the request may have been carried out before, without
        an answer. ``deadline`` is of ``time.monotonic``.

        Raises Unavailable, Refused.
        """
        if time.monotonic() < self._open_until:
            raise Unavailable("no member of the cluster answers", sent=False)
        sent, pause, once, problem = False, _FIRST_PAUSE, self._trying, ""
        while True:
            for member in self._order():
                left = min(self._attempt_seconds, deadline - time.monotonic())
                if left <= 0:
                    break
                try:
                    answer, twice = self._ask(member, path, body, left)
                except Refused as error:
                    error.sent = error.sent or sent
                    raise
                except _Trouble as error:
                    sent, problem = True, str(error)
                    self._failed(member)
                except OSError as error:  # not even a connection
                    sent = sent or not isinstance(error, ConnectionRefusedError | ssl.SSLError)
                    if not (problem and isinstance(error, TimeoutError)):  # a deadline tells less than what was before
                        problem = error.strerror or str(error) or type(error).__name__
                    self._failed(member)
                else:
                    self._answered(member)
                    return answer, sent or twice
            wait = pause * (0.5 + random.random())  # noqa: S311 - so that a fleet does not come back all at once
            if once or time.monotonic() + wait >= deadline:
                break
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._open_until, self._trying = time.monotonic() + self._rest_seconds, True
        problem = problem or "no time left"
        raise Unavailable(f"no member of the cluster answered in time ({problem})", sent=sent)

    def close(self) -> None:
        """Let go of all connections; those in use are closed after their answer."""
        with self._lock:
            self._closed = True
            idle = [connection for member in self._members for connection in member.idle]
            for member in self._members:
                member.idle.clear()
        for connection in idle:
            connection.close()

    # --- members ----------------------------------------------------------------------------------

    def _order(self) -> list[_Member]:
        """Who is asked, in order: those that rest only if there is nobody else."""
        now = time.monotonic()
        members = sorted(self._members, key=lambda member: member is not self._first)
        return [member for member in members if member.rests_until <= now] or members

    def _failed(self, member: _Member) -> None:
        member.failures += 1
        rest = min(_LONGEST_REST, self._rest_seconds * 2 ** min(member.failures - 1, 8))
        member.rests_until = time.monotonic() + rest * (0.5 + random.random() / 2)  # noqa: S311 - as above
        with self._lock:
            idle, member.idle = member.idle, []
        for connection in idle:
            connection.close()

    def _answered(self, member: _Member) -> None:
        member.failures, member.rests_until = 0, 0.0
        self._first, self._trying = member, False

    # --- one request ------------------------------------------------------------------------------

    def _ask(self, member: _Member, path: str, body: bytes, seconds: float) -> tuple[bytes, bool]:
        """The answer, and whether it was sent twice. Raises _Trouble, OSError, Refused."""
        ends = time.monotonic() + seconds
        with self._lock:
            connection = member.idle.pop() if member.idle else None
        if connection is not None:
            try:
                return self._exchange(member, connection, path, body, ends), False
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                pass  # it was closed while nobody used it: that says nothing of the member
        twice = connection is not None
        connection = http.client.HTTPSConnection(
            member.host, member.port, timeout=seconds, context=self._identity.context()
        )
        try:
            connection.connect()
        except OSError:
            connection.close()
            raise
        try:
            return self._exchange(member, connection, path, body, ends), twice
        except Refused as error:
            error.sent = twice
            raise

    def _exchange(
        self, member: _Member, connection: http.client.HTTPSConnection, path: str, body: bytes, ends: float
    ) -> bytes:
        kept = False
        try:
            self._time(connection, ends)
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = self._content(connection, response, ends)
            if not response.will_close:
                kept = self._keep(member, connection)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            raise
        except (http.client.HTTPException, OSError) as error:
            raise _Trouble(type(error).__name__) from None
        finally:
            if not kept:
                connection.close()
        if response.status == http.client.OK:
            return content
        raise _complaint(content)

    def _content(
        self, connection: http.client.HTTPSConnection, response: http.client.HTTPResponse, ends: float
    ) -> bytes:
        """All of the answer, by then: a timeout of a socket alone is one for each piece."""
        parts, size = [], 0
        while part := response.read1(1 << 20):
            parts.append(part)
            size += len(part)
            if size > _MOST_BYTES:
                raise _Trouble("an answer without end")
            self._time(connection, ends)
        response.read()  # nothing is left; but only this tells http.client so, and lets the connection be used again
        return b"".join(parts)

    def _time(self, connection: http.client.HTTPSConnection, ends: float) -> None:
        left = ends - time.monotonic()
        if left <= 0:
            raise _Trouble("too slow")
        if connection.sock is not None:  # http.client lets go of it when the answer is to be the last
            connection.sock.settimeout(left)

    def _keep(self, member: _Member, connection: http.client.HTTPSConnection) -> bool:
        with self._lock:
            if not self._closed:
                member.idle.append(connection)
            return not self._closed


def _complaint(content: bytes) -> Exception:
    try:
        told = msgspec.json.decode(content, type=_Complaint)
    except msgspec.MsgspecError:
        return _Trouble("no answer of etcd")
    if told.code in _PASSING:
        return _Trouble(told.error)
    return Refused(told.error or told.message, told.code)
