"""A folder tree as one digest, and what differs between two of them. Pure.

Contract: the digest covers the relative name of everything in the tree, what kind it is, the content of files and the
targets of links. It does not cover modes, owners and times, nor anything in folders named ``__pycache__``: bytecode
there is made by whoever runs the code, so it is no part of the code, and launched scripts do not use it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import islice

SKIPPED = "__pycache__"

Listing = Mapping[str, str]
"""Relative name ("" for the tree) to what is there: ``folder``, ``link TARGET``, ``file SHA256``, or ``other``."""


def digest(listing: Listing) -> str:
    """64 hex digits over the listing, in the order of the names."""
    state = hashlib.sha256(b"keychain-auth tree 1\0")
    for name in sorted(listing, key=_encode):
        for word in (_encode(name), _encode(listing[name])):
            state.update(len(word).to_bytes(8, "big") + word)
    return state.hexdigest()


def differences(before: Listing, after: Listing, most: int) -> tuple[str, ...]:
    """The first ``most`` names that are new, gone or changed, each with a word that says which."""
    names = sorted(before.keys() | after.keys())
    return tuple(islice((f"{name} ({_how(before, after, name)})" for name in names if _how(before, after, name)), most))


def _how(before: Listing, after: Listing, name: str) -> str:
    if name not in before:
        return "new"
    if name not in after:
        return "gone"
    return "changed" if before[name] != after[name] else ""


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
