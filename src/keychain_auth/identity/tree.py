"""A folder tree as one digest, and what differs between two of them. Pure.

Contract: the digest covers the relative name of everything in the tree, what kind it is, the content of files and the
targets of links. It does not cover modes, owners and times. Of a Python tree it leaves out cached bytecode, which is
made by whoever runs the code, and a ``__pycache__`` folder that holds nothing else. Such a name has a dot before its
suffix, so that no module name leads to it. Everything else in ``__pycache__`` could be imported, and counts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from itertools import islice

CACHE = "__pycache__"
# PEP 3147 and PEP 488, and the name under which importlib writes before it renames (_write_atomic).
_BYTECODE = re.compile(r"[^/]+\.[a-z]+-?[0-9]+t?(\.opt-[a-zA-Z0-9]+)?\.pyc(\.[0-9]+)?", re.DOTALL)

Listing = Mapping[str, str]
"""Relative name ("" for the tree) to what is there: ``folder``, ``link TARGET``, ``file SHA256``, or ``other``."""


def is_cached_bytecode(name: str) -> bool:
    """Is a regular file of this name, directly in ``__pycache__``, bytecode that no import finds by its own name?"""
    return _BYTECODE.fullmatch(name) is not None


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
