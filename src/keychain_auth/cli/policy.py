"""config.json for the commands that read or change it: the file's own rules, told to a person.

Contract: a malformed file is never touched; line and field are named. A change is made from the newest content, under
the file's lock (``daemon.policy_file``), so that commands at the same time both count.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, TypeVar

from keychain_auth.cli.programs import spellings
from keychain_auth.daemon import policy_file
from keychain_auth.daemon.places import Places
from keychain_auth.errors import KeychainAuthError, NotFound, PolicyFormatError
from keychain_auth.policy.edit import Document
from keychain_auth.policy.parse import Policy

T = TypeVar("T")


def change(places: Places, edit_document: Callable[[Document], tuple[Document, T]]) -> T:
    """Change config.json; returns the second value of ``edit_document``. Raises KeychainAuthError, OSError."""
    try:
        return policy_file.change(places.policy, edit_document)
    except PolicyFormatError as error:
        raise KeychainAuthError(
            f"{places.policy}: {error}; nothing was changed", hint=f"edit {shlex.quote(places.policy)}"
        ) from None


def read(places: Places) -> Policy:
    """The policy as it stands in the file. Raises KeychainAuthError."""
    return policy_file.require_good(places.policy)


def known_path(document: Document, typed: str) -> str:
    """The path under which the program ``typed`` stands in ``document``. Raises NotFound."""
    known = {entry["path"] for entry in document.get("registered_binaries", [])}
    return _first_known(typed, known)


def known_program(policy: Policy, typed: str) -> str:
    """The path under which the program ``typed`` stands in ``policy``. Raises NotFound."""
    return _first_known(typed, policy.by_path)


def entry_of(document: Document, path: str) -> dict[str, Any]:
    """The first entry of ``path``, which must be there."""
    return next(entry for entry in document["registered_binaries"] if entry["path"] == path)


def _first_known(typed: str, known: Any) -> str:
    candidates = spellings(typed)
    for path in candidates:
        if path in known:
            return path
    raise NotFound(f"{candidates[0]} is not registered", hint=f"keychain-auth register {shlex.quote(typed)}")
