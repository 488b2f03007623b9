"""What can be set: ``daemon.toml`` beside config.json, every value with a default.

filesystems = ["tmpfs"]          # further filesystems whose files may be identified (see the threat model)
hash_limit_bytes = 1073741824    # programs larger than this are refused without being read
strict = true                    # strict mode for every program, not only where its entry asks for it

guard_group = "keychain-auth-clients"  # system mode: the group of keychain-auth-guarded

[limits]                         # protocol, section "Limits"
connections = 512

[audit]
max_bytes = 10485760
keep = 10

[history]
values = 3                       # earlier values kept of each secret; 0: none

[lock]
idle_seconds = 0.0               # lock the vault after this time without use; 0: never
absolute_seconds = 0.0           # lock it after this time, used or not; 0: never
passphrase_seconds = 0.5         # what one attempt at a passphrase costs, where the passphrase is set
on_sleep = true                  # lock it when the machine goes to sleep, while a passphrase is set (needs logind)
on_screen_lock = true            # the same when the screen is locked
tpm = ""                         # the TPM, as tss2-tcti(7) has it: "device:/dev/tpmrm0"
wsl_helper = ""                  # on WSL: the program on the Windows side that keeps a key (absolute path)

[users]                          # system mode: what one user may have
connections = 128

[keychains]                      # docs/keychains.md
default = "vault"
routes = { "desktop-*" = "secret-service" }
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator

import msgspec

from keychain_auth import files
from keychain_auth.daemon.shares import UserSettings
from keychain_auth.errors import KeychainAuthError, quoted
from keychain_auth.keychain.kinds import StoreSettings, of_this_system
from keychain_auth.keychain.router import VAULT
from keychain_auth.limits import LONGEST_SERVICE, LONGEST_WAIT
from keychain_auth.wire.messages import Limits


class AuditSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a new audit file is begun, and how many old ones stay; how much of it refusals may take, and how often
    repeated ones are counted together (seconds)."""

    max_bytes: int = 10 * 1024 * 1024
    keep: int = 10
    refused_bytes_per_hour: int = 1024 * 1024
    summary_seconds: float = 60.0


class HistorySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many earlier values of each secret stay; 0 keeps none, and drops those that there are at the next start."""

    values: int = 3


class LockSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the vault locks itself, in seconds (0: never); what one attempt at a new passphrase shall cost; where the
    TPM is (tss2-tcti(7); empty: the usual device); the Windows helper of ``protectors.wsl``, an absolute path."""

    idle_seconds: float = 0.0
    absolute_seconds: float = 0.0
    passphrase_seconds: float = 0.5
    on_sleep: bool = True
    on_screen_lock: bool = True
    tpm: str = ""
    wsl_helper: str = ""


class KeychainsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where services lie: ``routes`` from names and patterns of services to names of keychains (``keychain.routes``),
    ``default`` for all others, ``stores`` are keychains by name. Two need not be named there: the vault, and what
    the operating system has (``kinds.of_this_system``)."""

    default: str = VAULT
    routes: dict[str, str] = {}
    stores: dict[str, StoreSettings] = {}

    def all_stores(self) -> dict[str, StoreSettings]:
        """All keychains that can be opened beside the vault."""
        return {**of_this_system(), **self.stores}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of daemon.toml."""

    filesystems: tuple[str, ...] = ()
    hash_limit_bytes: int = 1024 * 1024 * 1024
    strict: bool = False
    guard_group: str = "keychain-auth-clients"
    notifications: bool = True
    wait_for_approval: float = 0.0
    limits: Limits = Limits()
    audit: AuditSettings = AuditSettings()
    history: HistorySettings = HistorySettings()
    lock: LockSettings = LockSettings()
    keychains: KeychainsSettings = KeychainsSettings()
    users: UserSettings = UserSettings()


def load_settings(path: str) -> Settings:
    """The settings in the file, or the defaults. Raises KeychainAuthError naming file and problem, UnsafeFile."""
    return read_settings(path)[1]


def read_settings(path: str) -> tuple[str, Settings]:
    """The text of the file ("" if there is none) and what it says. Raises as ``load_settings``."""
    try:
        content = files.read_private(path)
    except FileNotFoundError:
        return "", Settings()
    try:
        return content.decode(), parse_settings(content)
    except ValueError as error:
        raise KeychainAuthError(f"{path}: {error}", hint=f"edit {quoted(path)}") from None


def parse_settings(content: bytes) -> Settings:
    """What the content of a daemon.toml says. Raises ValueError, which says what is wrong."""
    try:
        settings = msgspec.toml.decode(content, type=Settings)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    _require_positive(settings)
    _require_known(settings.keychains)
    return settings


def difference_lines(before: Settings, after: Settings) -> list[str]:
    """What ``after`` says that ``before`` does not say, and the other way round: a line for each, as JSON."""
    old, new = (dict(_flat("", msgspec.to_builtins(settings))) for settings in (before, after))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    pairs = [(sign, name, said[name]) for name in names for sign, said in (("-", old), ("+", new)) if name in said]
    return [f"{sign}{name} = {value}" for sign, name, value in pairs]


def _flat(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            # A name that people chose (of a store, of a service) is quoted: it may hold dots, or anything else.
            word = name if name.replace("_", "").isascii() and name.isidentifier() else json.dumps(name)
            yield from _flat(f"{prefix}.{word}" if prefix else word, inner)
    else:
        yield prefix, json.dumps(value)


def _require_positive(settings: Settings) -> None:
    numbers = {**msgspec.structs.asdict(settings.limits), **msgspec.structs.asdict(settings.audit)}
    numbers |= {f"users.{name}": number for name, number in msgspec.structs.asdict(settings.users).items()}
    numbers["hash_limit_bytes"] = settings.hash_limit_bytes
    for name, store in settings.keychains.stores.items():
        numbers |= {
            f"keychains.stores.{name}.{field}": value
            for field, value in msgspec.structs.asdict(store).items()
            if isinstance(value, int | float) and (field != "stale_seconds" or value)
        }
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be greater than 0, and not {number}")
    if not 0 <= settings.wait_for_approval <= LONGEST_WAIT:
        raise ValueError(f"wait_for_approval must be 0 to {LONGEST_WAIT} seconds")
    if settings.history.values < 0:
        raise ValueError("history.values must be 0 or greater")
    for name, number in msgspec.structs.asdict(settings.lock).items():
        if not isinstance(number, str) and not 0 <= number < 1e9:
            raise ValueError(f"lock.{name} must be 0 or greater")
    if settings.lock.wsl_helper and not os.path.isabs(settings.lock.wsl_helper):
        raise ValueError("lock.wsl_helper must be an absolute path")


def _require_known(keychains: KeychainsSettings) -> None:
    """Every keychain that is named is one that there is."""
    if VAULT in keychains.stores:
        raise ValueError(f"keychains.stores: {VAULT!r} is the name of the vault")
    known = {VAULT, *keychains.all_stores()}
    for where, name in (("default", keychains.default), *keychains.routes.items()):
        if name not in known:
            there_are = ", ".join(sorted(known))
            raise ValueError(f"keychains, {where!r}: there is no keychain {name!r} (there are: {there_are})")
    for service in keychains.routes:
        if not 1 <= len(service) <= LONGEST_SERVICE:
            raise ValueError(f"keychains.routes: a service has 1 to {LONGEST_SERVICE} characters")
