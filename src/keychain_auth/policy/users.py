"""Whose entry it is, and whose secrets: what system mode adds to the policy. Pure.

Contract (protocol, section "System mode"): an entry that names users counts for those alone. A service belongs to the
user who asks, unless the policy says that it is shared: two users who write ``aws`` write two secrets, and neither can
read the other's by any name. That is so because a stored name that begins with ``@`` is always ``@UID:SERVICE``, made
here, and a shared service cannot begin so.
"""

from __future__ import annotations

from collections.abc import Collection

from keychain_auth.model import Denial, Entry
from keychain_auth.reasons import USER_NOT_ALLOWED


def of_user(entry: Entry, uid: int, name: str) -> Entry | Denial:
    """The entry, if it counts for the user ``uid``, who is called ``name``."""
    if entry.users is None or name in entry.users or str(uid) in entry.users:
        return entry
    return Denial(USER_NOT_ALLOWED, "users", f"{name} ({uid})", ", ".join(sorted(entry.users)), entry)


def stored_name(service: str, uid: int, shared: Collection[str]) -> str:
    """Under which name the secrets of ``service`` lie for the user ``uid``."""
    return service if service in shared else own_prefix(uid) + service


def own_prefix(uid: int) -> str:
    """How the stored names of this user's own services begin; no shared service begins so."""
    return f"@{uid}:"


def belongs(name: str, owner: str) -> bool:
    """Is the stored ``name`` one of ``owner``, which is a user's ``own_prefix``, or a shared service?"""
    return name.startswith(owner) if owner.startswith("@") else name == owner
