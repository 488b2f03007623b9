"""config.json for the commands that read or change it: the file's own rules, told to a person.

Contract: a malformed file is never touched; line and field are named. A change is made from the newest content, under
the file's lock (``daemon.state.policy_file``), so that commands at the same time both count. Where a passphrase is set,
a command seals its own change and no other: a file that holds an edit which nobody accepted is left as it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, TypeVar

from keychain_auth.cli.report import complain
from keychain_auth.cli.shared.programs import how_to_register, spellings
from keychain_auth.client import admin, passphrase
from keychain_auth.daemon.places import Places
from keychain_auth.daemon.state import policy_file
from keychain_auth.errors import DaemonNotRunning, KeychainAuthError, NotFound, PolicyFormatError
from keychain_auth.keychain.vault import peek_slots
from keychain_auth.policy.edit import Document
from keychain_auth.policy.parse import Policy, parse_document
from keychain_auth.protectors.passphrase import KIND

T = TypeVar("T")

UNSEALED_HINT = "keychain-auth policy seal"
_STATUS_SECONDS = 5.0


def change(places: Places, edit_document: Callable[[Document], tuple[Document, T]]) -> T:
    """Change config.json, and have the change sealed where a passphrase is set.

    Returns the second value of ``edit_document``. Raises KeychainAuthError, OSError.
    """
    accepted = accepted_text(places)
    if accepted is not None:
        passphrase.present()  # before the file's lock is taken: others must not wait for a person

    def seal(before: Document, text: str) -> None:
        if accepted is None:
            return
        if before != parse_document(accepted.encode())[1]:
            raise KeychainAuthError(
                f"{places.policy} holds a change that nobody sealed; nothing was changed", hint=UNSEALED_HINT
            )
        admin.ask("policy-seal", socket=places.agent_socket, value=text)

    try:
        return policy_file.change(places.policy, edit_document, seal)
    except PolicyFormatError as error:
        raise KeychainAuthError(
            f"{places.policy}: {error}; nothing was changed", hint=f"edit {shlex.quote(places.policy)}"
        ) from None


def accepted_text(places: Places) -> str | None:
    """The text of config.json that a running daemon obeys although the file may say something else; None without a
    seal. Without a daemon nobody knows; then a change waits to be sealed, and a line on stderr says so.

    Raises KeychainAuthError.
    """
    try:
        text: str | None = admin.ask("policy-accepted", socket=places.agent_socket)["text"]
    except DaemonNotRunning:
        if any(slot.kind == KIND for slot in peek_slots(places.vault)):
            complain("warning: the policy is sealed, and no daemon runs: the change waits to be sealed", UNSEALED_HINT)
        return None
    return text


def read(places: Places) -> Policy:
    """The policy as it stands in the file. Raises KeychainAuthError."""
    return policy_file.require_good(places.policy)


def not_obeyed(places: Places, *, quiet: bool) -> str:
    """Why a running daemon does not obey the file, "" if it does or if none can be asked; told unless ``quiet``."""
    try:
        problem = str(admin.ask("status", socket=places.agent_socket, timeout=_STATUS_SECONDS)["policy"]["problem"])
    except (KeychainAuthError, KeyError, TypeError):
        return ""
    if problem and not quiet:
        complain(f"this is the file; it is not obeyed: {problem}", UNSEALED_HINT)
    return problem


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
    raise NotFound(f"{candidates[0]} is not registered", hint=how_to_register(typed))
