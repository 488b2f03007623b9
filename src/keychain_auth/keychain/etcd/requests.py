"""The words of etcd's JSON gateway: what a transaction (``POST /v3/kv/txn``) and a lease look like, and their answers.

Contract: pure. Bytes are base64 there, and 64-bit numbers are text (the JSON mapping of proto3). What an answer does
not say has proto3's default.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from keychain_auth.errors import KeychainError

T = TypeVar("T")
Operation = dict[str, Any]
_NO_ETCD = "what answers there is no etcd"


class Pair(msgspec.Struct, frozen=True):
    """One key as it is held. ``version``: how often it was written since it was made."""

    key: bytes
    value: bytes = b""
    mod_revision: int = 0
    version: int = 0


class Held(msgspec.Struct, frozen=True):
    """The answer to one range."""

    pairs: list[Pair] = msgspec.field(default_factory=list, name="kvs")
    count: int = 0


class _Header(msgspec.Struct):
    cluster_id: int = 0
    revision: int = 0


class _Response(msgspec.Struct):
    response_range: Held | None = None


class _Lease(msgspec.Struct):
    lease: int = msgspec.field(default=0, name="ID")


class _Answer(msgspec.Struct):
    header: _Header
    succeeded: bool = False
    responses: list[_Response] = []


class Answer(msgspec.Struct, frozen=True):
    """What a transaction did. ``ranges``: the answers to its ranges, in order. ``revision``: of the whole cluster.

    ``repeated``: the request was sent before, and may have been carried out then.
    """

    succeeded: bool
    ranges: list[Held]
    cluster: int
    revision: int
    repeated: bool


def unchanged(key: bytes, revision: int) -> Operation:
    """True if ``key`` was changed last at ``revision``; 0: if there is none."""
    return {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def get(key: bytes, revision: int = 0) -> Operation:
    """``key``, as it was at ``revision``; 0: as it is."""
    return {"request_range": {"key": key, "revision": str(revision)}}


def below(prefix: bytes) -> Operation:
    """Everything that begins with ``prefix``, which does not end in 0xFF."""
    return {"request_range": {"key": prefix, "range_end": _beyond(prefix)}}


def count(prefix: bytes, revision: int) -> Operation:
    """How many keys began with ``prefix`` at ``revision``."""
    asked = {"key": prefix, "range_end": _beyond(prefix), "revision": str(revision), "count_only": True}
    return {"request_range": asked}


def put(key: bytes, value: bytes, lease: int = 0) -> Operation:
    """Store, to be removed with ``lease``; 0: to stay."""
    return {"request_put": {"key": key, "value": value, "lease": str(lease)}}


def remove(key: bytes) -> Operation:
    """Remove one key."""
    return {"request_delete_range": {"key": key}}


def transaction(
    compares: Iterable[Operation], if_true: Iterable[Operation], if_false: Iterable[Operation] = ()
) -> bytes:
    """The body of the request. Its reads are linearizable: etcd asks a majority."""
    return msgspec.json.encode({"compare": list(compares), "success": list(if_true), "failure": list(if_false)})


def grant(lease: int, seconds: int) -> bytes:
    """The body of a request for this lease (``POST /v3/lease/grant``). One that is there already is refused."""
    return msgspec.json.encode({"ID": str(lease), "TTL": str(seconds)})


def revoke(lease: int) -> bytes:
    """The body of the request that ends a lease, and removes what was stored with it (``POST /v3/lease/revoke``)."""
    return msgspec.json.encode({"ID": str(lease)})


def answer(body: bytes, *, repeated: bool) -> Answer:
    """What the answer to a transaction says. Raises KeychainError."""
    told = _told(body, _Answer)
    ranges = [each.response_range for each in told.responses if each.response_range is not None]
    return Answer(told.succeeded, ranges, told.header.cluster_id, told.header.revision, repeated)


def lease(body: bytes) -> int:
    """The lease that was granted. Raises KeychainError."""
    granted = _told(body, _Lease).lease
    if not granted:
        raise KeychainError(_NO_ETCD)
    return granted


def _told(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except (msgspec.MsgspecError, ValueError):
        pass
    raise KeychainError(_NO_ETCD)


def _beyond(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])
