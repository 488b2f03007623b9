"""Windows' Credential Manager as a keychain: one generic credential for each target.

Contract: as ``keychain.base``, with these differences, which Credential Manager makes (docs/keychains.md):

* A batch is not one transaction (``keychain.items``).
* A credential holds 2,560 bytes: names, attributes and value together, as UTF-8. What does not fit is refused before
  anything is changed, and the error says by how much.

**Names are not private.** The credential is called ``keychain-auth:`` and a hash of service and target, because Windows
does not tell ``a`` from ``A`` in its name; what the hash stands for is in the credential itself, and stands there in
the clear for the person who looks (user name: the target; comment: the service). What it holds::

    ["SERVICE", "TARGET", {"ATTRIBUTE": "TEXT"}]\\n   JSON
    VALUE                                             the bytes of the value, to the end

What is called so and holds anything else, or something that belongs under another name, is not there in a list, and an
error where it is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import NoReturn

import msgspec

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.items import Entry, ItemStore, StoreUnreachable
from keychain_auth.keychain.kinds import CredentialManagerSettings
from keychain_auth.keychain.threaded import ThreadedKeychain
from keychain_auth.native import credentials

PREFIX = "keychain-auth:"
_SHOWN = 128  # characters of a name for people: Windows takes 256 in a comment, 513 in a user name
_LENGTH_BYTES = 4
_HEAD = msgspec.json.Decoder(tuple[str, str, dict[str, str]])


class CredentialItems:
    """See ``items.Items``. ``prefix``: what the names of our credentials begin with."""

    def __init__(self, prefix: str = PREFIX) -> None:
        self._prefix = prefix

    def names(self, service: str | None) -> Iterator[Entry]:
        """See ``items.Items``."""
        try:
            found = credentials.find(self._prefix)
        except OSError as error:
            _explain(error)
        for credential in found:
            entry = self._decoded(credential.name, credential.blob)
            if entry is not None and service in (None, entry.service):
                yield entry

    def find(self, service: str, target: str) -> Entry | None:
        """See ``items.Items``."""
        name = self._prefix + mark_of(service, target)
        try:
            blob = credentials.read(name)
        except OSError as error:
            _explain(error)
        if blob is None:
            return None
        entry = self._decoded(name, blob)
        if entry is None:
            raise KeychainError(
                f"the credential of {target!r} in service {service!r} was changed by another program",
                hint=f"look at it, then remove it: cmdkey /delete:{name}",
            )
        return entry

    def check(self, service: str, target: str, value: bytes, attributes: Mapping[str, str]) -> None:
        """See ``items.Items``: does it fit?"""
        head = len(_head(service, target, attributes))
        room = credentials.LARGEST_BLOB - head
        if len(value) > room:
            raise KeychainError(
                f"Credential Manager holds {credentials.LARGEST_BLOB} bytes for a secret: with names and attributes "
                f"({head} bytes) {max(room, 0)} are left, and the value of {target!r} has {len(value)}",
                hint="let the service lie in the vault (docs/keychains.md)",
            )

    def put(self, service: str, target: str, value: bytes, attributes: Mapping[str, str]) -> None:
        """See ``items.Items``."""
        blob = _head(service, target, attributes) + value
        try:
            credentials.write(self._prefix + mark_of(service, target), blob, target[:_SHOWN], service[:_SHOWN])
        except OSError as error:
            _explain(error)

    def remove(self, service: str, target: str) -> None:
        """See ``items.Items``."""
        try:
            credentials.delete(self._prefix + mark_of(service, target))
        except OSError as error:
            _explain(error)

    def probe(self) -> None:
        """See ``items.Items``: ask for one that cannot be there."""
        try:
            credentials.read(f"{self._prefix}probe")
        except OSError as error:
            _explain(error)

    def _decoded(self, name: str, blob: bytes) -> Entry | None:
        entry = decoded(blob)
        if entry is None or name.lower() != (self._prefix + mark_of(entry.service, entry.target)).lower():
            return None
        return entry


def mark_of(service: str, target: str) -> str:
    """What stands for a place in the name of its credential, and for no other, with regard to case or not. Pure."""
    parts = (service.encode(), target.encode())
    joined = b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)
    return hashlib.sha256(joined).hexdigest()


def decoded(blob: bytes) -> Entry | None:
    """The item that a credential holds, None if it is none of ours. Pure."""
    head, separator, value = blob.partition(b"\n")
    try:
        service, target, attributes = _HEAD.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Entry(service, target, attributes, value) if separator else None


def open_keychain(settings: CredentialManagerSettings, answer_bytes: int) -> ThreadedKeychain:
    """As ``kinds`` calls it."""
    store = ItemStore(CredentialItems())
    keychain = ThreadedKeychain(store, "credential-manager", "Credential Manager", seconds=settings.seconds)
    keychain.answer_bytes = answer_bytes
    return keychain


def _head(service: str, target: str, attributes: Mapping[str, str]) -> bytes:
    return json.dumps([service, target, dict(attributes)], ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _explain(error: OSError) -> NoReturn:
    if error.errno == credentials.NO_SUCH_LOGON_SESSION:
        raise StoreUnreachable(
            "this log-on has no Credential Manager, as that of a service or a network log-on",
            hint="start the daemon in a log-on of the person: keychain-auth start",
        ) from None
    what = error.strerror or "it is a part of Windows, and this is another system"
    raise StoreUnreachable(f"Credential Manager cannot be asked: {what}") from None


__all__ = ["CredentialItems", "decoded", "mark_of", "open_keychain"]
