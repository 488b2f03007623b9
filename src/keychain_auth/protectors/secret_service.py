"""A desktop keyring (Secret Service) as the keeper of the vault's key: one item in the default collection.

What it stops: whoever has the files without the keyring's password. What it does *not* stop: a program of the same user
while the keyring is open, for the Secret Service asks nobody. It opens with the login, so the vault does too.

Nothing here starts a keyring or shows a prompt: while it is closed, the vault is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TypeVar

from keychain_auth.errors import VaultError, VaultKeyMissing
from keychain_auth.protectors.item import LABEL, SERVICE, ItemProtector
from keychain_auth.secret_service.bus import Refused, session_address
from keychain_auth.secret_service.service import TEXT, Gone, Locked, NoSuchObject, Secret, Service

T = TypeVar("T")

KIND = "secret_service"
_MEND = "log in to a desktop with a keyring (D-Bus, the Secret Service), or use another kind of key slot"
_SECONDS = 10.0  # for each piece of work


class SecretServiceItem(ItemProtector):
    """The protector of kind ``secret_service``. ``address``: the session bus; empty for this process's own."""

    kind = KIND
    keyring = "keyring"
    key_id_label = "keyring key id"

    def __init__(self, address: str = "") -> None:
        super().__init__()
        self._address = address

    def keep(self, account: str, text: bytes) -> Collection[bytes]:
        """See ``ItemProtector.keep``."""
        attributes = _attributes(account)

        def store(service: Service) -> list[bytes]:
            where = service.find_collection("")
            service.create(where, LABEL, attributes, Secret(text, TEXT), replace=True)
            return _found(service, attributes)

        try:
            return self._with(store)
        except VaultKeyMissing as problem:
            raise VaultError(str(problem), hint=problem.hint) from None

    def find(self, account: str) -> Collection[bytes]:
        """See ``ItemProtector.find``."""
        return self._with(lambda service: _found(service, _attributes(account)))

    def remove(self, account: str) -> None:
        """See ``ItemProtector.remove``."""

        def remove(service: Service) -> None:
            for path in _paths(service, _attributes(account)):
                service.delete(path)

        try:
            self._with(remove)
        except VaultKeyMissing as problem:
            raise VaultError(f"the item stays in the keyring: {problem}", hint=problem.hint) from None

    def _with(self, work: Callable[[Service], T]) -> T:
        """``work`` with the keyring; what is wrong with it as VaultKeyMissing."""
        try:
            service = Service(self._address or session_address(), time.monotonic() + _SECONDS)
        except Gone as gone:
            raise VaultKeyMissing(f"the keyring cannot be asked: {gone}", hint=_MEND) from None
        try:
            return work(service)
        except Locked:
            raise VaultKeyMissing("the keyring is locked", hint="log in, then: keychain-auth unlock") from None
        except (Gone, NoSuchObject, Refused) as problem:
            raise VaultKeyMissing(f"the keyring cannot be asked: {problem}", hint=_MEND) from None
        finally:
            service.close()


def _paths(service: Service, attributes: dict[str, str]) -> list[str]:
    """The items with these attributes. Raises Locked if the collection is."""
    where = service.find_collection("")
    if service.is_locked(where):
        raise Locked
    return service.search(where, [attributes])[0]


def _found(service: Service, attributes: dict[str, str]) -> list[bytes]:
    """The texts of all items with these attributes. Raises Locked."""
    return [secret.value for secret in service.secrets(_paths(service, attributes)).values()]


def _attributes(account: str) -> dict[str, str]:
    return {"service": SERVICE, "username": account, "account": account}
