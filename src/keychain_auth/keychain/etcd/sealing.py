"""What leaves the daemon for a cluster: keys that tell nothing, and blobs that only the fleet's key opens.

Contract:
* A service and a target are pseudonyms there (HMAC-SHA256). Names, attributes and values are sealed (``crypto.aead``)
  and bound to their kind and their place: a blob under another key of the cluster does not open.
* The fleet's key itself seals nothing. Each purpose has a key derived from it.

What it does not promise: who can write in the cluster can put back an *earlier* blob of the same place, or remove it,
and nobody notices. Who can read there sees how many services and targets there are, how long values are, and when they
change.

The layout below the keychain's prefix::

    k                       a blob that opens with the fleet's key, and with no other
    h/SERVICE               the head: name of the service, and the marks of its last changes. Written by every change
    n/SERVICE/TARGET        name of the target, attributes, size of the value, when it is due
    v/SERVICE/TARGET        value, attributes, when it is due
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from keychain_auth.crypto.aead import KEY_BYTES, Aead, NotAuthentic
from keychain_auth.crypto.kdf import joined, pseudonym, subkey
from keychain_auth.errors import KeychainError

T = TypeVar("T")
_CHECK = b"keychain-auth"


class Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The plaintext of a service's head. ``marks``: of the last changes, the newest first."""

    service: str
    marks: tuple[bytes, ...]


class Name(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The plaintext of a target's name. ``size``: of its value, in bytes. ``until``: as in Value."""

    target: str
    attributes: dict[str, str] | None
    size: int
    until: float | None = None


class Value(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The plaintext of a target's value. ``until``: when it is due to go, in seconds since the epoch; None: never."""

    value: str
    attributes: dict[str, str] | None
    until: float | None = None


class Seal:
    """The fleet's key, and the keys of the cluster below ``prefix``. May be used by several threads."""

    def __init__(self, key: bytes, prefix: str) -> None:
        """``key`` is 32 bytes. Raises ValueError."""
        if len(key) != KEY_BYTES:
            raise ValueError("a fleet's key has 32 bytes")
        self._prefix = prefix.encode()
        self._names = subkey(key, self._prefix, "etcd 1 names")
        self._aead = Aead(subkey(key, self._prefix, "etcd 1 seal"))

    # --- places -----------------------------------------------------------------------------------

    @property
    def check_key(self) -> bytes:
        """Where the blob is that shows whether two machines have the same key."""
        return self._prefix + b"k"

    @property
    def heads(self) -> bytes:
        """What the key of every head begins with."""
        return self._prefix + b"h/"

    def head_key(self, service: str) -> bytes:
        """Where the head of ``service`` is."""
        return self.heads + self._service(service)

    def names_of(self, service: str) -> bytes:
        """What the keys of all names of ``service`` begin with."""
        return self._prefix + b"n/" + self._service(service) + b"/"

    def name_key(self, service: str, target: str) -> bytes:
        """Where the name of the target is."""
        return self.names_of(service) + self._target(service, target)

    def value_key(self, service: str, target: str) -> bytes:
        """Where the value of the target is."""
        return self._prefix + b"v/" + self._service(service) + b"/" + self._target(service, target)

    def _service(self, service: str) -> bytes:
        return pseudonym(self._names, b"service", _bytes(service)).hex().encode()

    def _target(self, service: str, target: str) -> bytes:
        return pseudonym(self._names, b"target", _bytes(service), _bytes(target)).hex().encode()

    # --- blobs ------------------------------------------------------------------------------------

    def check(self) -> bytes:
        """The blob for ``check_key``."""
        return self._aead.seal(_CHECK, self.check_key)

    def is_ours(self, blob: bytes) -> bool:
        """Was this ``check`` made with the same key?"""
        try:
            return self._aead.open(blob, self.check_key) == _CHECK
        except NotAuthentic:
            return False

    def seal(self, key: bytes, plain: Head | Name | Value) -> bytes:
        """The blob for the place ``key``."""
        return self._aead.seal(msgspec.msgpack.encode(plain), _context(key, plain))

    def open_head(self, key: bytes, blob: bytes) -> Head:
        """Raises KeychainError, as its two sisters do."""
        return self._open(key, blob, Head)

    def open_name(self, key: bytes, blob: bytes) -> Name:
        """The name that lies under ``key``."""
        return self._open(key, blob, Name)

    def open_value(self, key: bytes, blob: bytes) -> Value:
        """The value that lies under ``key``."""
        return self._open(key, blob, Value)

    def _open(self, key: bytes, blob: bytes, kind: type[T]) -> T:
        try:
            return msgspec.msgpack.decode(self._aead.open(blob, joined([kind.__name__.encode(), key])), type=kind)
        except (NotAuthentic, msgspec.MsgspecError):
            pass
        raise KeychainError(f"what the cluster holds does not open with the fleet's key ({kind.__name__.lower()})")


def _context(key: bytes, plain: Head | Name | Value) -> bytes:
    return joined([type(plain).__name__.encode(), key])


def _bytes(name: str) -> bytes:
    """Two names are never alike, whatever a caller asks for; what is stored was looked at before (``names``)."""
    return name.encode("utf-8", "surrogatepass")
