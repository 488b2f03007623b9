"""The keychain of macOS as a keychain: one generic password for each target.

Contract: as ``keychain.base``, with these differences, which Keychain Services make (docs/keychains.md):

* A batch is not one transaction (``keychain.items``).
* An item belongs to service S and target T if its service is S and its account is T, whoever made it: that is what
  ``security``, keyring, go-keyring and keytar write too. Names that the protocol cannot carry are not there.
* Attributes of a request lie in the item's generic data, after a mark of ours. Where another program has data of its
  own there, its item can get a new value, but no attributes.

**Names are not private**: every program can list them, unlocked or not. Values of other programs' items are given out
only once a person agreed in a window, which is never shown: they are an error that names the target.

Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NoReturn

import msgspec

from keychain_auth.errors import CollectionLocked, KeychainError
from keychain_auth.keychain.items import Entry, ItemStore, StoreUnreachable
from keychain_auth.keychain.kinds import MacosKeychainSettings
from keychain_auth.keychain.names import can_be_asked_for
from keychain_auth.keychain.threaded import ThreadedKeychain
from keychain_auth.native import keychain_services
from keychain_auth.native.keychain_services import Password

_MARK = b"keychain-auth "
_ATTRIBUTES = msgspec.json.Decoder(dict[str, str])


class MacosItems:
    """See ``items.Items``."""

    def names(self, service: str | None) -> Iterator[Entry]:
        """See ``items.Items``. The same place in two keychains comes once: the first is the one that ``find`` finds."""
        try:
            self._require_open()
            found = keychain_services.names(service)
        except OSError as error:
            self._explain(error, "")
        seen = set()
        for password in found:
            place = password.service, password.account
            if place not in seen and can_be_asked_for(*place):
                seen.add(place)
                yield _entry(password)

    def find(self, service: str, target: str) -> Entry | None:
        """See ``items.Items``."""
        try:
            self._require_open()
            password = keychain_services.find(service, target)
        except OSError as error:
            self._explain(error, target)
        return None if password is None else _entry(password)

    def check(self, service: str, target: str, value: bytes, attributes: Mapping[str, str]) -> None:
        """See ``items.Items``: is there room for attributes?"""
        if not attributes:
            return
        try:
            self._require_open()
            there = keychain_services.listed(service, target)
        except OSError as error:
            self._explain(error, target)
        if there is not None and there.generic and not there.generic.startswith(_MARK):
            raise KeychainError(
                f"{target!r} in service {service!r} was made by another program, which leaves no room for attributes",
                hint="write it without attributes, or let the service lie in the vault (docs/keychains.md)",
            )

    def put(self, service: str, target: str, value: bytes, attributes: Mapping[str, str]) -> None:
        """See ``items.Items``."""
        try:
            self._require_open()
            there = keychain_services.listed(service, target)
            foreign = there is not None and there.generic and not there.generic.startswith(_MARK)
            generic = None if foreign else _MARK + msgspec.json.encode(dict(attributes))
            keychain_services.put(service, target, value, service, generic)
        except OSError as error:
            self._explain(error, target)

    def remove(self, service: str, target: str) -> None:
        """See ``items.Items``."""
        try:
            self._require_open()
            keychain_services.delete(service, target)
        except OSError as error:
            self._explain(error, target)

    def probe(self) -> None:
        """See ``items.Items``."""
        try:
            self._require_open()
        except OSError as error:
            self._explain(error, "")

    def _require_open(self) -> None:
        if keychain_services.is_locked():
            raise CollectionLocked(
                "the keychain of macOS is locked, and only a person can open it", hint="security unlock-keychain"
            )

    def _explain(self, error: OSError, target: str) -> NoReturn:
        if target and error.errno in (keychain_services.INTERACTION_NOT_ALLOWED, keychain_services.AUTH_FAILED):
            raise KeychainError(
                f"the item of {target!r} belongs to another program, and macOS would have to ask a person",
                hint="store it anew with keychain-auth, or let the service lie in the vault",
            ) from None
        what = error.strerror or "it is a part of macOS, and this is another system"
        raise StoreUnreachable(f"the keychain of macOS cannot be asked: {what}") from None


def _entry(password: Password) -> Entry:
    attributes: dict[str, str] = {}
    if password.generic.startswith(_MARK):
        try:
            attributes = _ATTRIBUTES.decode(password.generic[len(_MARK) :])
        except (msgspec.DecodeError, UnicodeDecodeError):
            attributes = {}
    return Entry(password.service, password.account, attributes, password.value)


def open_keychain(settings: MacosKeychainSettings, answer_bytes: int) -> ThreadedKeychain:
    """As ``kinds`` calls it."""
    keychain = ThreadedKeychain(
        ItemStore(MacosItems()), "macos-keychain", "the keychain of macOS", seconds=settings.seconds
    )
    keychain.answer_bytes = answer_bytes
    return keychain


__all__ = ["MacosItems", "open_keychain"]
