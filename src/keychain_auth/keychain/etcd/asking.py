"""Questions to the cluster below one prefix: transactions and leases.

Contract: each method blocks, until its deadline (of ``time.monotonic``) at most. Nothing is asked before it is known
that what lies below the prefix is of this key: two keys there would be two keychains that do not see each other.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.etcd import requests
from keychain_auth.keychain.etcd.cluster import Cluster, Refused
from keychain_auth.keychain.etcd.requests import Answer, Operation
from keychain_auth.keychain.etcd.sealing import Seal

_TRANSACTION = "/v3/kv/txn"
_TOO_LARGE = (3, 8)  # grpc: invalid argument (etcd's limit), resource exhausted (the limit of a message)
_NO_LEASE = 5  # grpc: not found
_LEASE_EXISTS = 9  # grpc: failed precondition


class NotMade(KeychainError):
    """Nothing was changed, for sure."""


class Asking:
    """May be used by several threads at the same time."""

    def __init__(self, cluster: Cluster, seal: Seal) -> None:
        self._cluster = cluster
        self._seal = seal
        self._key_is_right = False

    def transaction(
        self,
        compares: Iterable[Operation],
        if_true: Iterable[Operation],
        if_false: Iterable[Operation],
        deadline: float,
    ) -> Answer:
        """Raises Unavailable, KeychainError."""
        if not self._key_is_right:
            self._require_key(deadline)
        return self._transaction(requests.transaction(compares, if_true, if_false), deadline)

    def lease(self, seconds: int, deadline: float) -> int:
        """A lease that ends after so long. One that is granted and never used ends by itself. Raises as above."""
        if not self._key_is_right:
            self._require_key(deadline)
        # We choose its number: a request that is repeated would leave a second lease behind if etcd chose.
        lease = secrets.randbits(62) | 1
        try:
            told, _ = self._cluster.call("/v3/lease/grant", requests.grant(lease, seconds), deadline)
        except Refused as error:
            if error.sent and error.code == _LEASE_EXISTS:
                return lease  # by the request that nobody answered
            raise
        return requests.lease(told)

    def revoke(self, lease: int, deadline: float) -> None:
        """End a lease that nothing lies under. If that cannot be said, it ends by itself, so nothing is raised."""
        with contextlib.suppress(KeychainError):
            self._cluster.call("/v3/lease/revoke", requests.revoke(lease), deadline)

    def _require_key(self, deadline: float) -> None:
        key = self._seal.check_key
        put, get = requests.put(key, self._seal.check()), requests.get(key)
        answer = self._transaction(requests.transaction([requests.unchanged(key, 0)], [put], [get]), deadline)
        if not answer.succeeded and not any(self._seal.is_ours(pair.value) for pair in answer.ranges[0].pairs):
            raise KeychainError(
                "what the cluster holds below this prefix is of another key", hint="edit daemon.toml: key_file, prefix"
            )
        self._key_is_right = True

    def _transaction(self, body: bytes, deadline: float) -> Answer:
        try:
            told, repeated = self._cluster.call(_TRANSACTION, body, deadline)
        except Refused as error:
            if error.sent:
                raise
            if error.code in _TOO_LARGE and "larg" in str(error):
                raise NotMade(
                    "this change is larger than the cluster takes",
                    hint="write fewer at once, or raise etcd's --max-request-bytes",
                ) from None
            if error.code == _NO_LEASE:
                raise NotMade(
                    "the lifetime of this change ended before it was made; nothing was changed",
                    hint="edit daemon.toml: lifetimes",
                ) from None
            raise
        return requests.answer(told, repeated=repeated)
