"""Folder trees that launched scripts import from. This file chooses; ``linux/tree.py`` and ``linux/tree_hash.py`` are
the contract.

Only a system that launches scripts (``Platform.launches``) has them: of others only ``RECORDED`` is asked.
"""

from __future__ import annotations

import sys

RECORDED = sys.platform == "linux"
"""Whether what a script imports is recorded, because scripts are launched here."""

if sys.platform == "linux":
    from keychain_auth.platform.linux.tree import Found, Survey, TreeRefused, changed, key_of, listing, place, survey
    from keychain_auth.platform.linux.tree_hash import TreeHash, hash_found

__all__ = [
    "RECORDED",
    "Found",
    "Survey",
    "TreeHash",
    "TreeRefused",
    "changed",
    "hash_found",
    "key_of",
    "listing",
    "place",
    "survey",
]
