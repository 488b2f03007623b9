"""A cluster of etcd as a keychain: many machines, one store, and nothing in it that the cluster could read.

Contract: as ``keychain.base``, with these differences (docs/keychains.md, docs/fleet.md):

* A change takes as many targets as a transaction of the cluster allows; more are refused, and nothing is changed.
* If no member answers after a change was sent, it may have been made all the same. The error says so.

Four threads look, one changes: changes of this machine never meet each other in the cluster. An operation that has not
begun within its ``seconds`` never begins; one that has is over by then.
"""

from __future__ import annotations

import asyncio
import binascii
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from keychain_auth import files
from keychain_auth.errors import KeychainAuthError, KeychainError, UnsafeFile, quoted
from keychain_auth.keychain.base import Look, Recalled
from keychain_auth.keychain.budget import Budget
from keychain_auth.keychain.etcd.asking import Asking
from keychain_auth.keychain.etcd.changing import Changing
from keychain_auth.keychain.etcd.cluster import Cluster, Identity, Unavailable
from keychain_auth.keychain.etcd.known import Memory
from keychain_auth.keychain.etcd.local_copy import LocalCopy
from keychain_auth.keychain.etcd.looking import Looking
from keychain_auth.keychain.etcd.sealing import Seal
from keychain_auth.keychain.forwarding import Change, ForwardingKeychain
from keychain_auth.keychain.kinds import EtcdSettings
from keychain_auth.keychain.lifetimes import Lifetimes

T = TypeVar("T")
_READERS = 4


class EtcdKeychain(ForwardingKeychain):
    """Opened by ``open_keychain``."""

    def __init__(
        self, looking: Looking, changing: Changing, copy: LocalCopy, cluster: Cluster, *, members: int, seconds: float
    ) -> None:
        super().__init__(looking, changing)
        self._looking = looking
        self._copy = copy
        self._cluster = cluster
        self._members = members
        self._seconds = seconds
        self._readers = ThreadPoolExecutor(_READERS, "etcd-read")
        self._writer = ThreadPoolExecutor(1, "etcd-write")
        self._problem = ""

    def recall(self, look: Look, service: str, names: Sequence[str], attributes: Mapping[str, str]) -> Recalled | None:
        """See Remembering."""
        ways = {"read": self._copy.read, "read_prefix": self._copy.read_prefix, "search": self._copy.search}
        return ways[look](service, names, attributes, Budget(self.answer_bytes))

    def forget(self) -> None:
        """See Remembering."""
        self._copy.clear()

    async def probe(self) -> None:
        """See Keychain."""
        if not self._closed:
            try:
                await self._look(self._looking.probe)
            except KeychainError as error:
                self._problem = str(error)
            else:
                self._problem = ""

    def health(self) -> dict[str, object]:
        """See Keychain: how the cluster was when it was asked last."""
        state = "closed" if self._closed else "answers" if self._cluster.answers else "gone"
        found: dict[str, object] = {"backend": "etcd", "members": self._members, "state": state}
        if self._problem:
            found["problem"] = self._problem
        if self._copy.seconds:
            values, size = self._copy.size()
            found["local_copy"] = {"values": values, "bytes": size}
        return found

    async def close(self) -> None:
        """See Keychain. Waits for what is under way, which ends by its deadline."""
        if self._closed:
            return
        self._closed = True
        self._readers.shutdown(wait=False, cancel_futures=True)
        await asyncio.wrap_future(self._writer.submit(self._cluster.close))
        self._writer.shutdown(wait=False)

    async def _look(self, work: Callable[..., T]) -> T:
        return await asyncio.wrap_future(self._submit(self._readers, work))

    async def _made(self, work: Change) -> None:
        try:
            await asyncio.wrap_future(self._submit(self._writer, work))
        except Unavailable as error:
            if not error.sent:
                raise
            problem = str(error)
        else:
            return
        raise KeychainError(f"{problem}; the change may have been made", hint="look at it when the cluster is back")

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[[float], T]) -> Future[T]:
        self._require_open()
        return pool.submit(self._in_time, time.monotonic() + self._seconds, work)

    def _in_time(self, deadline: float, work: Callable[[float], T]) -> T:
        if time.monotonic() < deadline:
            return work(deadline)
        if not self._cluster.answers:
            raise Unavailable("no member of the cluster answered those who asked before", sent=False)
        raise KeychainError("the cluster is busy with what was asked before")


def open_keychain(settings: EtcdSettings, answer_bytes: int) -> EtcdKeychain:
    """As ``kinds`` calls it. Raises KeychainAuthError if a file is not what it must be."""
    for path in (settings.ca, settings.certificate, settings.certificate_key, settings.key_file):
        if not os.path.isabs(path):
            raise KeychainAuthError(f"{path!r} must be an absolute path", hint="edit daemon.toml, [keychains.stores]")
    if settings.operations < 3 or not settings.prefix:
        raise KeychainAuthError(
            "a store of kind etcd needs a prefix, and at least 3 operations", hint="edit daemon.toml"
        )
    try:
        lifetimes = Lifetimes(settings.lifetimes)
    except ValueError as error:
        raise KeychainAuthError(str(error), hint="edit daemon.toml, [keychains.stores], lifetimes") from None
    key = _fleet_key(settings.key_file)
    seal = Seal(key, settings.prefix)
    _require_secret(settings.certificate_key)
    cluster = Cluster(
        settings.endpoints,
        Identity(settings.ca, settings.certificate, settings.certificate_key),
        attempt_seconds=settings.attempt_seconds,
        rest_seconds=settings.rest_seconds,
    )
    asking, memory = Asking(cluster, seal), Memory()
    copy = LocalCopy(key, seconds=settings.stale_seconds, most_bytes=settings.stale_bytes)
    looking = Looking(asking, seal, memory, copy)
    looking.answer_bytes = answer_bytes
    changing = Changing(asking, seal, memory, copy, looking, lifetimes, settings.operations)
    return EtcdKeychain(looking, changing, copy, cluster, members=len(settings.endpoints), seconds=settings.seconds)


def _fleet_key(path: str) -> bytes:
    text = _require_secret(path).strip()
    if len(text) == 64:
        try:
            return binascii.unhexlify(text)
        except binascii.Error:
            pass
    raise KeychainAuthError(
        f"{path}: a fleet's key is 64 hexadecimal digits", hint=f"(umask 077; openssl rand -hex 32 > {quoted(path)})"
    )


def _require_secret(path: str) -> bytes:
    """The content of a file that nobody else can read. Raises KeychainAuthError."""
    try:
        content = files.read_private(path, 64 * 1024)
        mode = os.stat(path).st_mode
    except OSError as error:
        raise KeychainAuthError(f"cannot read {path}: {error.strerror}", hint="edit daemon.toml") from None
    if mode & 0o077:
        raise UnsafeFile(f"{path} can be read by others", hint=f"chmod 600 {quoted(path)}")
    return content
