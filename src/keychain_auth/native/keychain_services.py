"""Keychain Services of macOS: generic passwords of the user's keychains, one call each.

Contract: ``find``, ``names``, ``put`` and ``delete`` are SecItemCopyMatching, SecItemAdd, SecItemUpdate and
SecItemDelete of Security.framework, for class kSecClassGenericPassword, which is known by service and account. What
does not exist is None, False, or an empty list. They raise OSError, whose ``errno`` is the OSStatus.

No window is ever shown (SecKeychainSetUserInteractionAllowed, for this process): what would have to ask fails with
INTERACTION_NOT_ALLOWED, be it that the keychain is locked, or that the item belongs to another program.

Items are made in the user's default keychain, a file; not in the data protection keychain, which takes a signed
program with entitlements, and not in iCloud (kSecAttrSynchronizable is left out, and means no).

Not verified on hardware: written by Apple's documentation, tested against a stand-in (docs/platforms.md).

What it does not promise: macOS trusts the program that made an item, and for us that is the Python interpreter: every
script that the same interpreter runs gets the item without a question.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from keychain_auth.native import library
from keychain_auth.native.foundation import Pool, constant

ITEM_NOT_FOUND = -25300  # errSecItemNotFound
INTERACTION_NOT_ALLOWED = -25308  # errSecInteractionNotAllowed
AUTH_FAILED = -25293  # errSecAuthFailed
_DUPLICATE_ITEM = -25299  # errSecDuplicateItem
_UNLOCKED = 1  # kSecUnlockStateStatus

_NAMES = (
    "kSecClass", "kSecClassGenericPassword", "kSecAttrService", "kSecAttrAccount", "kSecAttrGeneric", "kSecAttrLabel",
    "kSecValueData", "kSecReturnData", "kSecReturnAttributes", "kSecMatchLimit", "kSecMatchLimitAll",
    "kSecMatchLimitOne",
)  # fmt: skip


class Password(NamedTuple):
    """An item. ``generic`` is for whoever made it (kSecAttrGeneric). ``value``: None where it was only listed."""

    service: str
    account: str
    generic: bytes
    value: bytes | None = None


class _Calls(NamedTuple):
    add: Callable[..., int]
    copy: Callable[..., int]
    update: Callable[..., int]
    delete: Callable[..., int]
    status: Callable[..., int]
    names: dict[str, int]


@cache
def _calls() -> _Calls:
    security = library.framework("Security")
    address, status = ctypes.c_void_p, ctypes.c_int32
    allow = library.bind(security, "SecKeychainSetUserInteractionAllowed", status, ctypes.c_ubyte)
    _check("SecKeychainSetUserInteractionAllowed", allow(0))
    return _Calls(
        add=library.bind(security, "SecItemAdd", status, address, address),
        copy=library.bind(security, "SecItemCopyMatching", status, address, address),
        update=library.bind(security, "SecItemUpdate", status, address, address),
        delete=library.bind(security, "SecItemDelete", status, address),
        status=library.bind(security, "SecKeychainGetStatus", status, address, address),
        names={name: constant(security, name) for name in _NAMES},
    )


def is_locked() -> bool:
    """Is the user's default keychain locked? Raises OSError."""
    found = ctypes.c_uint32()
    _check("SecKeychainGetStatus", _calls().status(None, ctypes.byref(found)))
    return not found.value & _UNLOCKED


def find(service: str, account: str) -> Password | None:
    """The item with its value. Raises OSError."""
    with Pool() as pool:
        wanted = {"kSecReturnData": pool.true, "kSecReturnAttributes": pool.true}
        found = _matching(pool, service, account, limit="kSecMatchLimitOne", **wanted)
        return _password(pool, found, service) if found else None


def listed(service: str, account: str) -> Password | None:
    """The item without its value, which needs nobody's consent. Raises OSError."""
    with Pool() as pool:
        found = _matching(pool, service, account, limit="kSecMatchLimitOne", kSecReturnAttributes=pool.true)
        return _password(pool, found, service) if found else None


def names(service: str | None) -> list[Password]:
    """All items, or those of ``service``, without values; those whose names are text. Raises OSError."""
    with Pool() as pool:
        found = _matching(pool, service, None, limit="kSecMatchLimitAll", kSecReturnAttributes=pool.true)
        items = [_password(pool, each, service) for each in pool.each(found)] if found else []
        return [item for item in items if item is not None]


def put(service: str, account: str, value: bytes, label: str, generic: bytes | None) -> None:
    """Store the item, in place of the one that is there. ``generic``: None leaves what is there. Raises OSError."""
    with Pool() as pool:
        calls, content = _calls(), {"kSecValueData": pool.data(value)}
        if generic is not None:
            content["kSecAttrGeneric"] = pool.data(generic)
        place = _table(pool, _place(pool, service, account))
        status = calls.update(place, _table(pool, content))
        if status != ITEM_NOT_FOUND:
            return _check("SecItemUpdate", status)
        whole = _table(pool, {**_place(pool, service, account), **content, "kSecAttrLabel": pool.text(label)})
        status = calls.add(whole, None)
        if status == _DUPLICATE_ITEM:  # somebody else was quicker
            return _check("SecItemUpdate", calls.update(place, _table(pool, content)))
        return _check("SecItemAdd", status)


def delete(service: str, account: str) -> bool:
    """Remove the item; False if it was not there. Raises OSError."""
    with Pool() as pool:
        status = _calls().delete(_table(pool, _place(pool, service, account)))
    if status == ITEM_NOT_FOUND:
        return False
    _check("SecItemDelete", status)
    return True


def _matching(pool: Pool, service: str | None, account: str | None, *, limit: str, **wanted: int) -> int:
    """What SecItemCopyMatching finds, 0 if nothing."""
    calls, found = _calls(), ctypes.c_void_p()
    query = {**_place(pool, service, account), "kSecMatchLimit": calls.names[limit], **wanted}
    status = calls.copy(_table(pool, query), ctypes.byref(found))
    if status == ITEM_NOT_FOUND:
        return 0
    _check("SecItemCopyMatching", status)
    return pool.own(found.value)


def _place(pool: Pool, service: str | None, account: str | None) -> dict[str, int]:
    place = {"kSecClass": _calls().names["kSecClassGenericPassword"]}
    if service is not None:
        place["kSecAttrService"] = pool.text(service)
    if account is not None:
        place["kSecAttrAccount"] = pool.text(account)
    return place


def _table(pool: Pool, entries: dict[str, int]) -> int:
    known = _calls().names
    return pool.table({known[name]: value for name, value in entries.items()})


def _password(pool: Pool, found: int, service: str | None) -> Password | None:
    """The item in a table of attributes; None if its names are no text, or others than were asked for.

    What was asked for is compared again: were it matched without regard to case somewhere, it would be another item.
    """
    known = _calls().names
    text = [pool.text_of(pool.item(found, known[name])) for name in ("kSecAttrService", "kSecAttrAccount")]
    if text[0] is None or text[1] is None or service not in (None, text[0]):
        return None
    generic = pool.bytes_of(pool.item(found, known["kSecAttrGeneric"])) or b""
    return Password(text[0], text[1], generic, pool.bytes_of(pool.item(found, known["kSecValueData"])))


def _check(call: str, status: int) -> None:
    if status:
        raise OSError(status, f"{call} failed with status {status}")
