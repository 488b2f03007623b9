"""The vault key in its envelopes: one *slot* for each way to open the vault.

The vault key is random and never stored bare. Each slot holds it encrypted under a key-encryption key (KEK)
that one *protector* can produce: from a key file, a passphrase, a chip. Slots come and go without touching a
single secret. (Key slots as in LUKS.)

A wrapped key is bound to its vault, its slot, the kind of its protector and the protector's parameters. An
envelope from another vault, or one with weakened parameters, does not open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from keychain_auth.crypto.aead import Aead, scrub_stack
from keychain_auth.crypto.kdf import joined, wipe

Params = Mapping[str, str]
Key = bytes | bytearray


class Protector(Protocol):
    """One way to produce a key-encryption key. It stands here, below all who make or use one.

    Making a vault goes ``create``, then the vault is written whole, then ``commit``, then the vault gets its
    name. So whatever ``create`` prepares must vanish when the process dies before ``commit``.
    """

    @property
    def kind(self) -> str:
        """The name of this kind of slot, as it is stored: ``keyfile``."""

    @property
    def asked(self) -> bool:
        """True if the key comes from a person, who can be wrong: then an envelope that does not open means that."""

    def present(self) -> bool:
        """True if key material of an earlier ``commit`` is at hand, readable or not."""

    def create(self) -> tuple[Params, Key]:
        """Parameters to store in the slot (not secret), and a new KEK of 32 bytes."""

    def commit(self) -> None:
        """Make durable what ``create`` prepared. Raises KeychainError; never overwrites key material."""

    def withdraw(self, params: Params) -> None:
        """Remove what ``commit`` left on this machine for a slot that is gone; what is not there is no fault.

        Raises KeychainError.
        """

    def unwrap_key(self, params: Params) -> Key:
        """The KEK of 32 bytes for a slot with ``params``; a buffer that can be wiped, is. May take long.

        Raises VaultKeyMissing or UnsafeFile, ValueError for parameters that cannot be.
        """


class Place(NamedTuple):
    """Where an envelope belongs. ``params`` are the very bytes that are stored beside it."""

    vault_id: bytes
    slot: int
    kind: str
    params: bytes

    def context(self) -> bytes:
        """The place as one string that no other place gives."""
        return joined((b"slot", self.vault_id, self.slot.to_bytes(8, "big"), self.kind.encode(), self.params))


def wrap(kek: Key, key: bytes | memoryview, place: Place) -> bytes:
    """``key`` encrypted for this place."""
    try:
        return Aead(kek).seal(key, place.context())
    finally:
        scrub_stack()


def unwrap_into(kek: Key, wrapped: bytes, place: Place, into: memoryview) -> None:
    """The key in the envelope ``wrapped``, into 32 bytes of memory. Raises NotAuthentic; then they are zero."""
    try:
        Aead(kek).open_into(wrapped, place.context(), into)
    finally:
        scrub_stack()


def discard(kek: Key) -> None:
    """Overwrite a KEK that is not needed any more, if it can be."""
    if isinstance(kek, bytearray):
        wipe(kek)
