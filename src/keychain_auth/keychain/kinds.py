"""The kinds of keychains beside the vault, and how one is opened.

Contract: what a kind needs (its module, its library) is loaded when a keychain of that kind is opened, and not before.
So nothing here names them but as text.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Protocol

import msgspec

from keychain_auth.errors import KeychainAuthError
from keychain_auth.keychain.base import Keychain


class SecretServiceSettings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="secret-service"
):
    """A collection of the desktop's keyring. ``collection``: alias, last part of its path, or label; "" is the default
    one. ``seconds``: how long an operation may take. ``names_seconds``: how long names are remembered at most.
    """

    collection: str = ""
    seconds: float = 5.0
    names_seconds: float = 5.0


class EtcdSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="etcd"):
    """A cluster of etcd (docs/fleet.md). ``endpoints``: all members, ``https://HOST:PORT``. ``ca``, ``certificate``,
    ``certificate_key``: PEM files. ``key_file``: the fleet's key, 64 hexadecimal digits. ``prefix``: what all keys in
    the cluster begin with. ``seconds``: how long an operation may take, ``attempt_seconds`` how long one member may.
    ``rest_seconds``: how long nobody is asked after all of them failed. ``operations``: the cluster's --max-txn-ops.
    ``stale_seconds``: how old an answer from the local copy may be (0: there is none), ``stale_bytes``: what it holds.
    ``lifetimes``: how long values last, by name or pattern of services (``keychain.lifetimes``).
    """

    endpoints: tuple[str, ...]
    ca: str
    certificate: str
    certificate_key: str
    key_file: str
    prefix: str = "keychain-auth/"
    seconds: float = 5.0
    attempt_seconds: float = 2.0
    rest_seconds: float = 1.0
    operations: int = 128
    stale_seconds: float = 0.0
    stale_bytes: int = 1048576
    lifetimes: dict[str, str] = {}


class CredentialManagerSettings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="credential-manager"
):
    """Windows' Credential Manager, of the account that runs the daemon. ``seconds``: how long a read may take."""

    seconds: float = 5.0


class MacosKeychainSettings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="macos-keychain"
):
    """The default keychain of macOS, of the user who runs the daemon. ``seconds``: how long a read may take."""

    seconds: float = 5.0


StoreSettings = SecretServiceSettings | EtcdSettings | CredentialManagerSettings | MacosKeychainSettings
"""What ``[keychains.stores.NAME]`` of daemon.toml can be: ``kind`` says which."""


def of_this_system(platform: str = sys.platform) -> dict[str, StoreSettings]:
    """The keychain that an operating system has by itself, under the name of its kind."""
    if platform == "win32":
        return {"credential-manager": CredentialManagerSettings()}
    if platform == "darwin":
        return {"macos-keychain": MacosKeychainSettings()}
    return {"secret-service": SecretServiceSettings()}


class _Module(Protocol):
    def open_keychain(self, settings: Any, answer_bytes: int) -> Keychain: ...


_MODULES = {
    SecretServiceSettings: "keychain_auth.keychain.secret_service.keychain",
    EtcdSettings: "keychain_auth.keychain.etcd.keychain",
    CredentialManagerSettings: "keychain_auth.keychain.windows",
    MacosKeychainSettings: "keychain_auth.keychain.macos",
}
_EXTRAS: dict[type, str] = {SecretServiceSettings: "secret-service"}


def open_keychain(name: str, settings: StoreSettings, answer_bytes: int) -> Keychain:
    """The keychain called ``name``, whose answers may gather ``answer_bytes`` (``budget``).

    It connects to nothing yet. Raises KeychainAuthError if its library is missing.
    """
    kind = type(settings)
    try:
        module: _Module = importlib.import_module(_MODULES[kind])
    except ImportError as error:
        extra = f" with its extra {_EXTRAS[kind]}" if kind in _EXTRAS else ""
        raise KeychainAuthError(
            f"the keychain {name!r} needs a package that is not installed ({error.name})",
            hint=f"install keychain-auth{extra}, as the README says",
        ) from None
    return module.open_keychain(settings, answer_bytes)
