"""On whose behalf a helper answers: ``behalf``, and the approval of a pair that waits.

Contract: a program that only root can replace is named by its path; any other by path and hash, as it is now. A shell
is nobody (it carries what others want), an interpreter is the script that it runs. Who asks for one secret is given no
more: where the helper may have something on behalf of all, an approval of the request is refused until a person said
that.
"""

from __future__ import annotations

import shlex
from typing import Any

import click

from keychain_auth.cli.commands.registering.scripts import interpreter_of
from keychain_auth.cli.shared import config_file, output
from keychain_auth.cli.shared.options import json_option, passphrase_option
from keychain_auth.cli.shared.programs import look_at, spellings
from keychain_auth.cli.shared.temporary import grant_document
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import KeychainAuthError, UsageError
from keychain_auth.model import Program
from keychain_auth.platform.place import only_root_writes
from keychain_auth.policy import edit
from keychain_auth.policy.behalf import adopts, carries
from keychain_auth.policy.interpreters import is_interpreter
from keychain_auth.policy.pending import PendingEntry


@click.command()
@click.argument("helper")
@click.option("--allow", metavar="PROGRAM", multiple=True, help="PROGRAM may stand behind it, as it is now.")
@click.option("--forbid", metavar="PROGRAM", multiple=True, help="PROGRAM may not stand behind it any more.")
@click.option("--anyone", is_flag=True, help="It answers whoever starts it.")
@click.option("--ask", is_flag=True, help="It asks who stands behind it, and knows nobody yet.")
@passphrase_option
@json_option
def behalf(
    helper: str, allow: tuple[str, ...], forbid: tuple[str, ...], anyone: bool, ask: bool, as_json: bool
) -> None:
    """Say who may stand behind the known program HELPER: who may have it ask for secrets.

    Without options it shows them. Who is not named and starts it is refused, and waits in list-pending as a pair.
    PROGRAM is the nearest parent of HELPER that is no shell; for an interpreter, the script that it runs.
    """
    if anyone + ask > 1 or (anyone and (allow or forbid)):
        raise click.UsageError("--anyone goes with nothing else, and --ask not with it.")
    places = find_places()
    added = [_named(program) for program in allow]
    if not (allow or forbid or anyone or ask):
        entry = config_file.read(places).by_path[config_file.known_program(config_file.read(places), helper)][0]
        named = None if entry.on_behalf_of is None else [behind.path for behind in entry.on_behalf_of]
        _tell("shown", entry.program.path, named, as_json)
        return

    def change(document: edit.Document) -> tuple[edit.Document, tuple[str, dict[str, Any]]]:
        known = config_file.known_path(document, helper)
        changed = document
        if anyone or ask:
            changed = edit.answer_for(changed, known, None if anyone else [])
        for behind in added:
            changed = edit.stand_behind(changed, known, behind)
        for program in forbid:
            changed = edit.step_back(changed, known, spellings(program))
        return changed, (known, config_file.entry_of(changed, known))

    known, entry_document = config_file.change(places, change)
    behind = entry_document.get("on_behalf_of")
    _tell("changed", known, None if behind is None else [edit.behind_path(each) for each in behind], as_json)


def behind_document(program: Program, interpreter: Program | None) -> str | dict[str, str]:
    """How ``program`` is named in ``on_behalf_of``."""
    if interpreter is not None:
        return {"path": program.path, "hash": f"sha256:{program.sha256}", "interpreter": interpreter.path}
    if only_root_writes(program.path):
        return program.path
    return {"path": program.path, "hash": f"sha256:{program.sha256}"}


def approve_pair(document: edit.Document, waiting: PendingEntry) -> edit.Document:
    """Let the program that waits stand behind its helper. Raises NotFound, UsageError; KeychainAuthError if the helper
    is another, or if that gave more than is asked for."""
    helper = waiting.helper
    if helper is None:
        raise UsageError(f"{waiting.path} waits for itself")
    program, interpreter = waiting.programs()
    known = {entry["path"]: entry["hash"].removeprefix("sha256:") for entry in document.get("registered_binaries", [])}
    if known.get(helper.path, "") != helper.hash.removeprefix("sha256:"):
        raise KeychainAuthError(
            f"{helper.path} is not the helper any more that asked; nothing was approved",
            hint=f"keychain-auth upgrade {shlex.quote(helper.path)}",
        )
    behind, wish = behind_document(program, interpreter), waiting.request
    changed = edit.stand_behind(document, helper.path, behind)
    if wish is None:
        return changed
    if more := _also_given(document, helper.path, behind):
        raise KeychainAuthError(
            f"{program.path} asks for {wish.service} alone, and would stand behind {helper.path} for good, which may "
            f"{', '.join(more)} on behalf of all; nothing was approved",
            hint="if that is meant: keychain-auth behalf "
            f"{shlex.quote(helper.path)} --allow {shlex.quote(program.path)}, and approve it again",
        )
    grant = grant_document(
        wish.service, read=True, write=False, targets=tuple(wish.targets), lasts=f"{wish.seconds}s", uses=wish.uses,
        behind=program.path,
    )  # fmt: skip
    return edit.grant_for_a_time(changed, helper.path, grant)


def _also_given(document: edit.Document, helper: str, behind: str | dict[str, str]) -> list[str]:
    """What ``behind`` would have as soon as it stands behind ``helper``, beside what is granted to it by name; nothing
    if it stands there already."""
    found: list[str] = []
    for entry in document["registered_binaries"]:
        if entry["path"] != helper or "on_behalf_of" not in entry or behind in (entry["on_behalf_of"] or ()):
            continue
        for word, field in (("read", "allowed_read_services"), ("write", "allowed_write_services")):
            found += [f"{word} {shlex.quote(service)}" for service in entry.get(field, ())]
        for grant in entry.get("temporary_grants", ()):
            if not grant.get("on_behalf_of"):
                found.append(f"use {shlex.quote(grant['service'])} for a time")
    return list(dict.fromkeys(found))


def tell_pair(waiting: PendingEntry, as_json: bool) -> None:
    """Say what was approved."""
    helper = waiting.helper.path if waiting.helper else ""
    if as_json:
        output.print_json({"outcome": "approved", "path": waiting.path, "hash": waiting.hash, "helper": helper})
    else:
        output.say(f"{waiting.path} may stand behind {helper}: it is given what that helper may have")
        if waiting.request is not None:
            output.say(f"  {waiting.request.service} {', '.join(waiting.request.targets)}: keychain-auth list")


def _named(typed: str) -> str | dict[str, str]:
    file = look_at(typed)
    path = file.program.path
    if carries(path):
        raise UsageError(f"{path} is a shell, which only carries what others want", hint="name the program behind it")
    if adopts(path):
        raise UsageError(f"{path} adopts what lost its parent, so it can stand behind nobody")
    if is_interpreter(path):
        raise UsageError(f"{path} is an interpreter: name the script that it runs", hint="keychain-auth behalf --help")
    interpreter = None if file.is_program else interpreter_of(file, None)[0].program
    return behind_document(file.program, interpreter)


def _tell(outcome: str, helper: str, named: list[str] | None, as_json: bool) -> None:
    if as_json:
        output.print_json({"outcome": outcome, "path": helper, "on_behalf_of": named})
    elif named is None:
        output.say(f"{helper} answers whoever starts it")
    else:
        output.say(f"{helper} answers only on behalf of: {', '.join(named) or 'nobody yet'}")
        if not named:
            output.say(
                "Who starts it waits then. Next: keychain-auth list-pending, or keychain-auth behalf "
                f"{shlex.quote(helper)} --allow PROGRAM"
            )
