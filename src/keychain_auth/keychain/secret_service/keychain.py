"""The Secret Service as a keychain: its store in a thread of its own (``keychain.threaded``).

Contract: as ``keychain.base``, with these differences, which the Secret Service makes (docs/keychains.md):

* A batch is not one transaction: if a step of it fails, the steps before are undone, and an error says if that failed.
* What is durable, the service decides.
* Attributes cannot be called ``service``, ``username``, ``account``, ``application`` or ``xdg:schema``.

Operations are made one after the other. What has not begun after ``seconds`` never begins, and a read is over by then;
a change that began is always awaited to its end, each step of which may take as long. After half a minute without any,
the bus is left, so that no connection and no name is kept for nothing.
"""

from __future__ import annotations

from keychain_auth.keychain.kinds import SecretServiceSettings
from keychain_auth.keychain.secret_service.store import SecretStore
from keychain_auth.keychain.threaded import ThreadedKeychain


class SecretServiceKeychain(ThreadedKeychain):
    """``collection``: alias, last part of the path, or label; "" is the default one. ``address``: of the D-Bus session,
    if it is not this process's own. ``names_seconds``: how long names are remembered if no signal comes.
    """

    def __init__(
        self, collection: str = "", *, seconds: float = 5.0, names_seconds: float = 5.0, address: str = ""
    ) -> None:
        store = SecretStore(collection, seconds=seconds, names_seconds=names_seconds, address=address)
        about = {"collection": collection or "default"}
        super().__init__(store, "secret-service", "the Secret Service", seconds=seconds, about=about)


def open_keychain(settings: SecretServiceSettings, answer_bytes: int) -> SecretServiceKeychain:
    """As ``kinds`` calls it."""
    keychain = SecretServiceKeychain(
        settings.collection, seconds=settings.seconds, names_seconds=settings.names_seconds
    )
    keychain.answer_bytes = answer_bytes
    return keychain
