"""Programs that asked and were not known: ``list-pending``, ``approve``, ``deny``.

Contract: what is approved is the file that asked. Its hash is taken anew, and if it is another by now, nothing is
written. An entry leaves the queue only after the policy is on disk. The queue is a file that any program of the user
can write: the id that ``list-pending`` shows binds all that an approval writes into the policy. A hash binds a
program's content alone, so a script and who stands behind a helper are not approved by it, unless the rest is named.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import click
import msgspec

from keychain_auth.cli.commands.approving.admitting import admit, load, take_out, unchanged, unsettled
from keychain_auth.cli.commands.approving.lines import decide
from keychain_auth.cli.commands.permitting.behalf import approve_pair, tell_pair
from keychain_auth.cli.commands.permitting.grants import grants_of, tell_grants
from keychain_auth.cli.commands.registering.demands import demand_options, demands, forgotten, tell_start
from keychain_auth.cli.shared import config_file, output
from keychain_auth.cli.shared.options import checked_prefix, checked_service, json_option, passphrase_option
from keychain_auth.client.terminal import stdin_is_nothing
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import EXIT_DONE, NotFound, UsageError
from keychain_auth.model import Grade
from keychain_auth.policy import edit
from keychain_auth.policy.launching import as_typed
from keychain_auth.policy.pending import ID_DIGITS, PendingEntry, PendingProgram, approval_id, find, in_words

_WANTED = re.compile(r"(?:sha256:)?[0-9a-fA-F]{8,64}")
_SHOWN_DIGITS = 16

path_option = click.option("--path", metavar="PATH", help="Which one, if several have this hash.")
interpreter_option = click.option("--interpreter", metavar="PATH", help="As run by this interpreter.")
helper_option = click.option("--helper", metavar="PATH", help="As who stands behind this helper, if it waits as more.")


@click.command("list-pending")
@json_option
def list_pending(as_json: bool) -> None:
    """Show the programs that wait for approval, oldest first. They are forgotten after 24 hours."""
    places = find_places()
    queue = unsettled(places, load(places))
    if as_json:
        output.print_json([_described(entry) for entry in queue])
    elif not queue:
        output.say("No program waits for approval.")
    else:
        output.table(
            ("id", "hash", "program", "interpreter", "behind", "user", "pid", "asked", "command line"),
            [
                (
                    approval_id(entry),
                    _short(entry, queue),
                    entry.path,
                    entry.interpreter.path if entry.interpreter else "-",
                    entry.helper.path if entry.helper else "-",
                    entry.user,
                    entry.pid,
                    entry.timestamp,
                    # The queue is a file of the user: what would be granted is told from what would be granted.
                    as_typed(entry.command_line) if entry.request is None else in_words(entry.request),
                )
                for entry in queue
            ],
        )
        output.say(f"Next, for what you know: keychain-auth approve {_example(queue)}; else: keychain-auth deny ID")


@click.command()
@click.argument("hash_", metavar="ID", required=False)
@click.option("-i", "--interactive", is_flag=True, help="Ask about each program that asks and waits right now.")
@click.option("--read", metavar="SERVICE", multiple=True, help="It may read SERVICE.")
@click.option("--write", metavar="SERVICE", multiple=True, help="It may write SERVICE.")
@click.option("--search", is_flag=True, help="It may search and use prefixes.")
@click.option("--targets", metavar="PREFIX", multiple=True, help="Only targets that begin with PREFIX.")
@demand_options
@path_option
@interpreter_option
@helper_option
@passphrase_option
@json_option
def approve(
    hash_: str | None,
    interactive: bool,
    read: tuple[str, ...],
    write: tuple[str, ...],
    search: bool,
    targets: tuple[str, ...],
    path: str | None,
    interpreter: str | None,
    helper: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Register a program that waits, with no permission but what the options say.

    ID is what `list-pending` shows: it means just what you saw there. The hash of a program, or at least 8 digits of
    its beginning, will do as well; for a script or behind a helper only with --interpreter or --helper, because the
    hash does not say these. A path that is registered already keeps its grants and gets the new hash. What waits behind
    a helper is not registered: from now on that helper, with its own permissions, answers on its behalf.

    With --interactive there is no ID: every program that waits with its connection open is shown, with all that is
    known of it, and you say what it may.
    """
    if interactive == (hash_ is not None):
        raise click.UsageError("Give an ID, or --interactive.")
    if hash_ is None:
        if stdin_is_nothing():
            raise UsageError("stdin is closed or /dev/null: nobody can answer", hint="keychain-auth list-pending")
        return decide(find_places())
    for service in (*read, *write):
        checked_service(service)
    for prefix in targets:
        checked_prefix(prefix)
    places = find_places()
    entry = _choose(load(places), hash_, path, interpreter, helper)
    _require_seen(entry, hash_, interpreter, helper)
    if entry.helper is not None:
        if read or write or search or targets:
            raise UsageError("the permissions are the helper's own", hint="keychain-auth authorize HELPER SERVICE")
        unchanged(entry)
        config_file.change(places, lambda document: (approve_pair(document, entry), None))
        take_out(places, entry)
        tell_pair(entry, as_json)
        return EXIT_DONE

    def grant(document: edit.Document, program: str) -> edit.Document:
        for service in dict.fromkeys((*read, *write)):
            document = edit.authorize(
                document, program, service, read=service in read, write=service in write, search=False
            )
        return edit.authorize(document, program, "", read=False, write=False, search=search, targets=targets)

    without = forgotten(options.pop("no_libraries"))
    wanted = demands(is_script=entry.interpreter is not None, **options)
    outcome, program, runs_it, registered = admit(places, entry, grant, demands=wanted, without=without)
    if as_json:
        output.print_json({"outcome": outcome, "hash": entry.hash, **grants_of(program.path, registered)})
        return EXIT_DONE
    output.say(f"{outcome} {program.path}", f"  {entry.hash}")
    if runs_it is not None:
        output.say(f"  run by {runs_it.path}")
    tell_grants(registered)
    if runs_it is not None:
        tell_start(program.path, registered.get("minimum_grade", Grade.LAUNCHED))
    return EXIT_DONE


@click.command()
@click.argument("hash_", metavar="ID")
@path_option
@interpreter_option
@helper_option
@json_option
def deny(hash_: str, path: str | None, interpreter: str | None, helper: str | None, as_json: bool) -> None:
    """Take a program out of the queue, without registering it. When it asks again, it is queued again."""
    places = find_places()
    entry = _choose(load(places), hash_, path, interpreter, helper)
    take_out(places, entry)
    if as_json:
        output.print_json({"outcome": "denied", "path": entry.path, "hash": entry.hash})
    else:
        output.say(f"denied {entry.path}")


def _choose(
    queue: list[PendingEntry], wanted: str, path: str | None, interpreter: str | None, helper: str | None
) -> PendingEntry:
    """The one entry that ``wanted`` (and ``path``, ``interpreter``, ``helper``) means. Raises UsageError, NotFound."""
    if not _WANTED.fullmatch(wanted):
        raise UsageError(
            f"{wanted} is neither an id nor a hash: give the whole id, or at least 8 hex digits of the hash",
            hint="keychain-auth list-pending",
        )
    found = [
        entry
        for entry in find(queue, wanted)
        if path in (None, entry.path) and _is(entry.interpreter, interpreter) and _is(entry.helper, helper)
    ]
    if not found:
        if any(approval_id(entry).startswith(wanted.lower()) for entry in queue):
            message = f"{wanted} is only the beginning of an id: give all {ID_DIGITS} digits"
            raise UsageError(message, hint="keychain-auth list-pending")
        raise NotFound(f"no program waits with the id or hash {wanted}", hint="keychain-auth list-pending")
    if len({entry.hash for entry in found}) > 1:
        raise UsageError(
            f"{len(found)} programs wait whose hashes begin with {wanted}: give more digits",
            hint="keychain-auth list-pending",
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
            hint="keychain-auth list-pending, and give the id",
        )
    return found[0]


def _is(named: PendingProgram | None, path: str | None) -> bool:
    return path is None or (named is not None and named.path == path)


def _require_seen(entry: PendingEntry, wanted: str, interpreter: str | None, helper: str | None) -> None:
    """What is approved is what the person saw, or named. Raises UsageError."""
    if approval_id(entry) == wanted.lower():
        return
    unnamed = [
        f"{how} {named.path}"
        for how, named, said in (("run by", entry.interpreter, interpreter), ("behind", entry.helper, helper))
        if named is not None and said is None
    ]
    if unnamed:
        raise UsageError(
            f"{entry.path} waits, {', '.join(unnamed)}; its hash does not say that, and other programs can write into "
            "the queue",
            hint=f"if that is meant: keychain-auth approve {approval_id(entry)}",
        )


def _described(entry: PendingEntry) -> dict[str, Any]:
    described: dict[str, Any] = {"id": approval_id(entry), **msgspec.to_builtins(entry)}
    described.setdefault("interpreter", None)
    described.setdefault("helper", None)
    described.setdefault("request", None)
    if described["request"] is not None:
        described["request"]["id"] = described["id"]
    return described


def _short(entry: PendingEntry, queue: list[PendingEntry]) -> str:
    """So many digits of the hash that they mean this program alone."""
    digits = entry.hash.removeprefix("sha256:")
    short = digits[:_SHOWN_DIGITS]
    return short if all(other.hash == entry.hash for other in find(queue, short)) else digits


def _example(queue: list[PendingEntry]) -> str:
    """The words after ``approve``: of the only one that waits, or of any."""
    name = approval_id(queue[0]) if len(queue) == 1 else "ID"
    return name if all(entry.helper for entry in queue) else f"{name} --read SERVICE"
