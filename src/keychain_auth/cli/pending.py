"""Programs that asked and were not known: ``list-pending``, ``approve``, ``deny``.

Contract: what is approved is the file that asked. Its hash is taken anew, and if it is another by now, nothing is
written. An entry leaves the queue only after the policy is on disk.
"""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from keychain_auth.cli import imports, output, policy
from keychain_auth.cli.behalf import approve_pair, tell_pair
from keychain_auth.cli.demands import demand_options, demands, forgotten, tell_start
from keychain_auth.cli.grants import grants_of, tell_grants
from keychain_auth.cli.options import checked_prefix, checked_service, json_option, passphrase_option
from keychain_auth.cli.programs import look_at
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.daemon.state import pending_file
from keychain_auth.errors import KeychainAuthError, NotFound, UsageError
from keychain_auth.model import Grade, Launch, Program, Requester
from keychain_auth.moments import stamp
from keychain_auth.platform.linux.ownership import only_root_writes
from keychain_auth.policy import edit
from keychain_auth.policy.behalf import judge
from keychain_auth.policy.explain import NEVER_APPROVED
from keychain_auth.policy.interpreters import is_interpreter, runs_no_script
from keychain_auth.policy.pending import PendingEntry, find

_WANTED = re.compile(r"(?:sha256:)?[0-9a-fA-F]{8,64}")
_SHOWN_DIGITS = 16

path_option = click.option("--path", metavar="PATH", help="Which one, if several have this hash.")
helper_option = click.option("--helper", metavar="PATH", help="As who stands behind this helper, if it waits as more.")


@click.command("list-pending")
@json_option
def list_pending(as_json: bool) -> None:
    """Show the programs that wait for approval, oldest first. They are forgotten after 24 hours."""
    places = find_places()
    queue = _unsettled(places, _load(places))
    if as_json:
        output.print_json([_described(entry) for entry in queue])
    elif not queue:
        output.say("No program waits for approval.")
    else:
        output.table(
            ("hash", "program", "interpreter", "behind", "user", "pid", "asked", "command line"),
            [
                (
                    _short(entry, queue),
                    entry.path,
                    entry.interpreter.path if entry.interpreter else "-",
                    entry.helper.path if entry.helper else "-",
                    entry.user,
                    entry.pid,
                    entry.timestamp,
                    entry.command_line,
                )
                for entry in queue
            ],
        )


@click.command()
@click.argument("hash_", metavar="HASH")
@click.option("--read", metavar="SERVICE", multiple=True, help="It may read SERVICE.")
@click.option("--write", metavar="SERVICE", multiple=True, help="It may write SERVICE.")
@click.option("--search", is_flag=True, help="It may search and use prefixes.")
@click.option("--targets", metavar="PREFIX", multiple=True, help="Only targets that begin with PREFIX.")
@demand_options
@path_option
@helper_option
@passphrase_option
@json_option
def approve(
    hash_: str,
    read: tuple[str, ...],
    write: tuple[str, ...],
    search: bool,
    targets: tuple[str, ...],
    path: str | None,
    helper: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Register a program that waits, with no permission but what the options say.

    HASH is the whole hash of `list-pending`, or at least 8 digits of its beginning. A path that is registered already
    keeps its grants and gets the new hash. What waits behind a helper is not registered: from now on that helper, with
    its own permissions, answers on its behalf.
    """
    for service in (*read, *write):
        checked_service(service)
    for prefix in targets:
        checked_prefix(prefix)
    places = find_places()
    entry = _choose(_load(places), hash_, path, helper)
    program, interpreter = _unchanged(entry)
    if entry.helper is not None:
        if read or write or search or targets:
            raise UsageError("the permissions are the helper's own", hint="keychain-auth authorize HELPER SERVICE")
        policy.change(places, lambda document: (approve_pair(document, entry), None))
        _take_out(places, entry)
        tell_pair(entry, as_json)
        return
    without = forgotten(options.pop("no_libraries"))
    wanted = demands(is_script=interpreter is not None, **options)
    if interpreter is not None:
        known = policy.read(places).by_path.get(program.path)
        launch = imports.renewed(places, interpreter.path, known[0].launch if known else Launch())
        wanted = {**wanted, "launch": launch} if launch else wanted

    def admit(document: edit.Document) -> tuple[edit.Document, tuple[str, dict[str, Any]]]:
        _same_interpreter(document, program, interpreter)
        changed, outcome = edit.register(
            document,
            program,
            stamp(datetime.now(UTC)),
            interpreter=interpreter,
            demands=wanted,
            without=without,
        )
        for service in dict.fromkeys((*read, *write)):
            changed = edit.authorize(
                changed, program.path, service, read=service in read, write=service in write, search=False
            )
        changed = edit.authorize(changed, program.path, "", read=False, write=False, search=search, targets=targets)
        return changed, (outcome, policy.entry_of(changed, program.path))

    outcome, registered = policy.change(places, admit)
    _take_out(places, entry)
    if as_json:
        output.print_json({"outcome": outcome, "hash": entry.hash, **grants_of(program.path, registered)})
        return
    output.say(f"{outcome} {program.path}", f"  {entry.hash}")
    if interpreter is not None:
        output.say(f"  run by {interpreter.path}")
    tell_grants(registered)
    if interpreter is not None:
        tell_start(program.path, registered.get("minimum_grade", Grade.LAUNCHED))


@click.command()
@click.argument("hash_", metavar="HASH")
@path_option
@helper_option
@json_option
def deny(hash_: str, path: str | None, helper: str | None, as_json: bool) -> None:
    """Take a program out of the queue, without registering it. When it asks again, it is queued again."""
    places = find_places()
    entry = _choose(_load(places), hash_, path, helper)
    _take_out(places, entry)
    if as_json:
        output.print_json({"outcome": "denied", "path": entry.path, "hash": entry.hash})
    else:
        output.say(f"denied {entry.path}")


def _load(places: Places) -> list[PendingEntry]:
    try:
        return pending_file.load(places.pending)
    except ValueError as error:
        raise _damaged(places, error) from None


def _unsettled(places: Places, queue: list[PendingEntry]) -> list[PendingEntry]:
    """The queue without what has been registered since, by another command than ``approve``."""
    try:
        known = policy.read(places).by_program
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


def _choose(queue: list[PendingEntry], wanted: str, path: str | None, helper: str | None) -> PendingEntry:
    """The one entry that ``wanted`` (and ``path``, ``helper``) means. Raises UsageError, NotFound."""
    if not _WANTED.fullmatch(wanted):
        raise UsageError(f"{wanted} is not a hash: give at least 8 hex digits of it", hint="keychain-auth list-pending")
    found = [
        entry
        for entry in find(queue, wanted)
        if path in (None, entry.path) and (helper is None or (entry.helper is not None and entry.helper.path == helper))
    ]
    if not found:
        raise NotFound(f"no program waits with the hash {wanted}", hint="keychain-auth list-pending")
    if len({entry.hash for entry in found}) > 1:
        raise UsageError(
            f"{len(found)} programs wait whose hashes begin with {wanted}: give more digits",
            hint="keychain-auth list-pending --json",
        )
    if len({entry.path for entry in found}) > 1:
        paths = ", ".join(entry.path for entry in found)
        raise UsageError(f"several files have this hash: {paths}", hint=f"add --path {shlex.quote(found[0].path)}")
    if len({entry.helper.path if entry.helper else "" for entry in found}) > 1:
        behind = ", ".join(f"behind {one.helper.path}" if one.helper else "for itself" for one in found)
        named = next(one.helper.path for one in found if one.helper)
        raise UsageError(f"{found[0].path} waits several times: {behind}", hint=f"add --helper {shlex.quote(named)}")
    if len(found) > 1:
        runners = ", ".join(one.interpreter.path if one.interpreter else "itself" for one in found)
        raise UsageError(
            f"{found[0].path} waits as run by several interpreters: {runners}",
            hint=f"keychain-auth register --script {shlex.quote(found[0].path)} --interpreter PATH",
        )
    return found[0]


def _unchanged(entry: PendingEntry) -> tuple[Program, Program | None]:
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


def _take_out(places: Places, done: PendingEntry) -> None:
    """Remove the entry from the queue of this moment: the daemon may have added to it."""

    def without(queue: list[PendingEntry]) -> tuple[list[PendingEntry], None]:
        return [entry for entry in _unsettled(places, queue) if entry.key != done.key], None

    try:
        pending_file.change(places.pending, without)
    except ValueError as error:
        raise _damaged(places, error) from None


def _damaged(places: Places, error: ValueError) -> KeychainAuthError:
    return KeychainAuthError(f"{places.pending}: {error}", hint=f"rm {shlex.quote(places.pending)}")


def _described(entry: PendingEntry) -> dict[str, Any]:
    described: dict[str, Any] = msgspec.to_builtins(entry)
    described.setdefault("interpreter", None)
    described.setdefault("helper", None)
    described.setdefault("request", None)
    return described


def _short(entry: PendingEntry, queue: list[PendingEntry]) -> str:
    """So many digits of the hash that they mean this program alone; of a request its id."""
    if entry.request is not None:
        return entry.request.id
    digits = entry.hash.removeprefix("sha256:")
    short = digits[:_SHOWN_DIGITS]
    return short if all(other.hash == entry.hash for other in find(queue, short)) else digits
