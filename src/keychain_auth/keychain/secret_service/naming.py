"""Which item of a Secret Service is which target of which service. Pure.

There is no standard. These are the attributes that programs in use agree on:

* ``keyring`` (Python): ``service``, ``username``, and ``application``
* ``go-keyring``: ``service``, ``username``
* ``keytar`` (Node): ``service``, ``account``, and ``xdg:schema``
* ``secret-tool``: what the person types; its manual shows ``service`` and ``username``

Contract:
* An item belongs to service S and target T if its ``service`` is S, and its ``username`` (or, without one, its
  ``account``) is T. Names that the protocol cannot carry, and items without these attributes, are not there for us.
* What we store has ``service``, ``username``, ``account`` and ``xdg:schema``, so that all of the above find it.
* Attributes of a request lie beside them under their own names; they cannot be called as one of ``BOOKKEEPING``.
"""

from __future__ import annotations

from collections.abc import Mapping

from keychain_auth.errors import KeychainError
from keychain_auth.keychain.names import can_be_asked_for

SCHEMA = "org.freedesktop.Secret.Generic"
BOOKKEEPING = frozenset(("service", "username", "account", "application", "xdg:schema"))
"""Attributes by which programs find their items: never answered to a client, never taken from one."""


def place_of(attributes: Mapping[str, str]) -> tuple[str, str] | None:
    """Service and target of an item, or None if it is none of ours."""
    service = attributes.get("service")
    target = attributes.get("username", attributes.get("account"))
    if service is None or target is None:
        return None
    if not can_be_asked_for(service, target):
        return None
    return service, target


def queries(service: str, target: str) -> tuple[dict[str, str], dict[str, str]]:
    """The searches that together find every item of that place (and perhaps others: ask ``place_of``)."""
    return {"service": service, "username": target}, {"service": service, "account": target}


def new_attributes(service: str, target: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes of an item that is stored for the first time."""
    place = {"service": service, "username": target, "account": target, "xdg:schema": SCHEMA}
    return {**attributes, **place}


def changed_attributes(old: Mapping[str, str], attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes of an item that gets a new value: its bookkeeping stays, so that whoever stored it finds it."""
    return {**attributes, **{name: text for name, text in old.items() if name in BOOKKEEPING}}


def own_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes that a client may see."""
    return {name: text for name, text in attributes.items() if name not in BOOKKEEPING}


def label(service: str, target: str) -> str:
    """What a person sees in the desktop's keyring application; keyring and go-keyring use the same words."""
    return f"Password for '{target}' on '{service}'"


def require_free(attributes: Mapping[str, str]) -> None:
    """Raises KeychainError if a client wants to store an attribute that is bookkeeping here."""
    taken = sorted(BOOKKEEPING & attributes.keys())
    if taken:
        raise KeychainError(
            f"a Secret Service finds items by {', '.join(taken)}: a stored attribute cannot be called that",
            hint="use other attribute names, or route this service to the vault (docs/keychains.md)",
        )
