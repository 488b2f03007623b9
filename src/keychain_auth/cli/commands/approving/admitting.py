"""From the queue of those who wait into the policy: what every way to approve a program has in common.

Contract: what is approved is the file that asked. Its hash is taken anew, and if it is another by now, nothing is
written. An entry leaves the queue only after the policy is on disk.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, NamedTuple

from keychain_auth.cli.commands.registering import imports
from keychain_auth.cli.shared import config_file
from keychain_auth.cli.shared.programs import look_at
from keychain_auth.daemon.places import Places
from keychain_auth.daemon.state import pending_file
from keychain_auth.errors import KeychainAuthError, UsageError
from keychain_auth.model import Launch, Program, Requester
from keychain_auth.moments import stamp
from keychain_auth.platform.place import only_root_writes
from keychain_auth.policy import edit
from keychain_auth.policy.behalf import judge
from keychain_auth.policy.explain import NEVER_APPROVED
from keychain_auth.policy.interpreters import is_interpreter, runs_no_script
from keychain_auth.policy.pending import PendingEntry

_SHOWN_DIGITS = 16


class Admitted(NamedTuple):
    """What became of an approval: ``outcome`` in a word, ``registered`` the entry as it stands in the file now."""

    outcome: str
    program: Program
    interpreter: Program | None
    registered: dict[str, Any]


def admit(
    places: Places,
    entry: PendingEntry,
    grant: Callable[[edit.Document, str], edit.Document],
    *,
    demands: edit.Document,
    without: Collection[str] = (),
) -> Admitted:
    """Register the program of ``entry`` with what ``grant`` adds to the document for its path, and take it from the
    queue. ``demands``, ``without``: as in ``edit.register``.

    Raises KeychainAuthError, OSError; then nothing was changed.
    """
    program, interpreter = unchanged(entry)
    if interpreter is not None:
        known = config_file.read(places).by_path.get(program.path)
        launch = imports.renewed(places, interpreter.path, known[0].launch if known else Launch())
        demands = {**demands, "launch": launch} if launch else demands

    def change(document: edit.Document) -> tuple[edit.Document, tuple[str, dict[str, Any]]]:
        _same_interpreter(document, program, interpreter)
        now = stamp(datetime.now(UTC))
        changed, outcome = edit.register(
            document, program, now, interpreter=interpreter, demands=demands, without=without
        )
        changed = grant(changed, program.path)
        return changed, (outcome, config_file.entry_of(changed, program.path))

    outcome, registered = config_file.change(places, change)
    take_out(places, entry)
    return Admitted(outcome, program, interpreter, registered)


def load(places: Places) -> list[PendingEntry]:
    try:
        return pending_file.load(places.pending)
    except ValueError as error:
        raise _damaged(places, error) from None


def unsettled(places: Places, queue: list[PendingEntry]) -> list[PendingEntry]:
    """The queue without what has been registered since, by another command than ``approve``."""
    try:
        known = config_file.read(places).by_program
    except KeychainAuthError:  # then nobody knows; the commands that change it say why
        return queue

    def settled(waiting: PendingEntry) -> bool:
        program, interpreter = waiting.programs()
        if waiting.request is not None:
            return False
        if waiting.helper is not None:
            helper = known.get((waiting.helper.path, waiting.helper.hash.removeprefix("sha256:")))
            requester = Requester(program, interpreter, of_root=only_root_writes(program.path))
            return helper is None or judge(helper, requester) is None
        entry = known.get((program.path, program.sha256))
        return entry is not None and entry.interpreter == interpreter

    return [waiting for waiting in queue if not settled(waiting)]


def unchanged(entry: PendingEntry) -> tuple[Program, Program | None]:
    """The program of ``entry`` and its interpreter, hashed anew. Raises UsageError for an interpreter,
    KeychainAuthError if it changed."""
    if entry.interpreter is None and is_interpreter(entry.path):
        raise UsageError(
            f"{entry.path} runs other programs, or speaks for them: to approve it would approve them all",
            hint=NEVER_APPROVED if runs_no_script(entry.path) else "keychain-auth register --script SCRIPT",
        )
    programs = entry.programs()
    for expected in programs:
        if expected is not None and look_at(expected.path).program != expected:
            raise KeychainAuthError(
                f"{expected.path} is not the file any more that asked; nothing was approved",
                hint=f"keychain-auth deny {entry.hash.removeprefix('sha256:')[:_SHOWN_DIGITS]}",
            )
    return programs


def _same_interpreter(document: edit.Document, program: Program, interpreter: Program | None) -> None:
    """Another interpreter for a registered script is a person's decision, not a request's. Raises UsageError."""
    for entry in document.get("registered_binaries", []):
        known = entry.get("interpreter")
        if entry["path"] == program.path and known and interpreter and known["path"] != interpreter.path:
            raise UsageError(
                f"{program.path} is registered as run by {known['path']}, and asked as run by {interpreter.path}",
                hint=f"keychain-auth register --script {shlex.quote(program.path)} --interpreter PATH",
            )


def take_out(places: Places, done: PendingEntry) -> None:
    """Remove the entry from the queue of this moment: the daemon may have added to it."""

    def without(queue: list[PendingEntry]) -> tuple[list[PendingEntry], None]:
        return [entry for entry in unsettled(places, queue) if entry.key != done.key], None

    try:
        pending_file.change(places.pending, without)
    except ValueError as error:
        raise _damaged(places, error) from None


def _damaged(places: Places, error: ValueError) -> KeychainAuthError:
    return KeychainAuthError(f"{places.pending}: {error}", hint=f"rm {shlex.quote(places.pending)}")
