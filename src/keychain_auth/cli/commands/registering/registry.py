"""Which programs are known: ``register``, ``upgrade``, ``unregister``, ``list``. (``check`` has a file of its own.)

None of them gives a permission. These commands change config.json and need no running daemon; a daemon that runs sees
the change at its next request.
"""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from keychain_auth import reasons
from keychain_auth.cli.commands.registering import imports
from keychain_auth.cli.commands.registering.demands import demand_options, demands, forgotten, tell_start
from keychain_auth.cli.commands.registering.scripts import interpreter_of, starts_declared
from keychain_auth.cli.commands.registering.upgrading import upgrade_all
from keychain_auth.cli.report import complain
from keychain_auth.cli.shared import config_file, output, temporary
from keychain_auth.cli.shared.location import SCRIPT_GRADE, grade_of, warnings_about, warnings_of_libraries
from keychain_auth.cli.shared.options import json_option, passphrase_option
from keychain_auth.cli.shared.programs import look_at, require_program
from keychain_auth.cli.shared.signers import signed_file, warnings_about_signer
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.errors import UsageError
from keychain_auth.model import Denial, Entry, Grade, Identity, Program
from keychain_auth.moments import stamp
from keychain_auth.oslayer import system
from keychain_auth.platform.trees import RECORDED
from keychain_auth.policy import edit
from keychain_auth.policy.behalf import is_helper
from keychain_auth.policy.explain import describe_entry, describe_signers, in_words, mend
from keychain_auth.policy.signers import reaches


@click.command()
@click.argument("path")
@click.option("--script", is_flag=True, help="PATH is a script; it is registered together with its interpreter.")
@click.option(
    "--interpreter", metavar="PATH", help="What runs the script. Otherwise its first line (#!) or its suffix says it."
)
@click.option("--app", is_flag=True, help="PATH is the command of a Python virtual environment (its bin/TOOL).")
@click.option(
    "--tree",
    "trees",
    metavar="FOLDER",
    multiple=True,
    help="The script imports from FOLDER too, as it is now. For Python it is put on the path.",
)
@demand_options
@passphrase_option
@json_option
def register(
    path: str, script: bool, interpreter: str | None, app: bool, trees: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Make the program PATH known, with no permission at all.

    Symlinks are resolved. A path that is known already gets its new hash and keeps its grants. An interpreter is
    refused: to register it would be to register everything that it runs. A script is registered together with
    what it imports from, as far as others than root can change that, and is to be started by keychain-auth launch.
    --allow-declared accepts it also when its command line only says that it is the script.
    """
    if not (script or app) and (interpreter is not None or trees):
        raise click.UsageError("--interpreter and --tree go with --script or --app.")
    places = find_places()
    if script or app:
        _register_script(places, path, interpreter, trees, app, options, as_json)
        return
    without = forgotten(options.pop("no_libraries"))
    wanted = demands(is_script=False, **options)
    file = require_program(path)
    warnings = warnings_about(places, file)
    if not file.is_program:
        warnings.append(f"{file.program.path} is no ELF program: the kernel will hardly name it as what runs")
    now = stamp(datetime.now(UTC))
    outcome = config_file.change(
        places, lambda document: edit.register(document, file.program, now, demands=wanted, without=without)
    )
    warnings += warnings_about_signer(places, file.program.path)
    warnings += _too_weak(places, file.program, grade_of(file.program.path))
    entry = _entry(places, file.program)
    warnings += warnings_of_libraries(file.program.path, (library.path for library in entry.libraries))
    _tell(outcome, file.program, None, entry, warnings, as_json)


def _register_script(
    places: Places, path: str, given: str | None, trees: tuple[str, ...], app: bool,
    options: dict[str, Any], as_json: bool,
) -> None:  # fmt: skip
    without = forgotten(options.pop("no_libraries"))
    wanted = demands(is_script=True, **options)
    script = look_at(path)
    if script.is_program:
        raise UsageError(
            f"{script.program.path} is a program, not a script", hint=f"keychain-auth register {shlex.quote(path)}"
        )
    known = next(iter(config_file.read(places).by_path.get(script.program.path, ())), None)
    if known is not None and given is None and not app:
        given = imports.python_of(known)
    interpreter, flags = interpreter_of(script, given)
    warnings = warnings_about(places, interpreter, script=script)
    if not starts_declared(script, interpreter, flags):
        warnings.append(
            f"started by its first line it gets the flags {' '.join(flags)}, and is not recognised: "
            f"start it with {interpreter.program.path} {script.program.path}"
        )
    launch = imports.launch_document(
        places,
        interpreter.program.path,
        os.path.abspath(interpreter.typed),
        [*imports.kept(known, interpreter.program.path), *trees],
    )
    if app and not RECORDED:
        raise UsageError(
            "--app is for scripts that are launched, and no script is on this system",
            hint=f"keychain-auth register --script --allow-declared {shlex.quote(path)}",
        )
    if app and not launch.get("prefix"):
        raise UsageError(
            f"{script.program.path} is not run by the Python of a virtual environment",
            hint=f"keychain-auth register --script {shlex.quote(path)}",
        )
    wanted = {**wanted, "launch": launch} if launch else wanted
    if known is None and is_helper(script.program.path):
        wanted["on_behalf_of"] = []
    now = stamp(datetime.now(UTC))
    outcome = config_file.change(
        places,
        lambda document: edit.register(
            document, script.program, now, interpreter=interpreter.program, demands=wanted, without=without
        ),
    )
    imports.forget_unused(places, config_file.read(places))
    warnings += _too_weak(places, script.program, Grade.LAUNCHED)
    if script.program.path.endswith(".mjs") and _entry(places, script.program).minimum_grade is not Grade.DECLARED:
        warnings.append(
            "keychain-auth launch runs Node scripts as CommonJS, and this is an ES module: rewrite it as .cjs with "
            "require(), or register it with --allow-declared"
        )
    _tell(outcome, script.program, interpreter.program, _entry(places, script.program), warnings, as_json)


@click.command()
@click.argument("paths", metavar="PATH", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every program whose new file a package manager vouches for.")
@click.option(
    "--importers", is_flag=True, help="Every script that imports from the Python environment of this command: helpers."
)
@passphrase_option
@json_option
def upgrade(paths: tuple[str, ...], every: bool, importers: bool, as_json: bool) -> None:
    """Give the known program PATH its new hash; its grants stay. PATH can be repeated.

    For a script, its interpreter and what it imports from are hashed anew as well. Where the entry names a signer, only
    what that signer signed is taken. An unknown path is exit code 6, and nothing is changed. With --all instead of
    PATH, each program that changed is renewed if dpkg or rpm says that its package installed it so, and only root could
    have; the others are listed with the reason. With --importers, what you installed or upgraded in the Python
    environment of keychain-auth is accepted for all scripts that import from it.
    """
    if (bool(paths), every, importers).count(True) != 1:
        raise click.UsageError("PATH, or --all, or --importers: one of them")
    places = find_places()
    now = stamp(datetime.now(UTC))
    if every:
        upgrade_all(places, now, as_json)
        return
    present = config_file.read(places)
    if importers:
        paths = tuple(entry.program.path for entry in present.by_program.values() if imports.is_importer(entry))
        if not paths and not as_json:
            output.say("No registered script imports from here.")
    known = dict.fromkeys(config_file.known_program(present, path) for path in paths)
    renewals = [_renewal(places, present.by_path[path][0]) for path in known]

    def renew(document: edit.Document) -> tuple[edit.Document, list[str]]:
        outcomes = []
        for program, runs, launch in renewals:
            demanded = {"launch": launch} if launch else {}
            document, outcome = edit.upgrade(document, program, runs, now=now, demands=demanded)
            outcomes.append(outcome)
        return document, outcomes

    outcomes = config_file.change(places, renew)
    imports.forget_unused(places, config_file.read(places))
    if importers and not as_json:
        output.say(*(f"{outcome} {program.path}" for outcome, (program, _, _) in zip(outcomes, renewals, strict=True)))
        return
    answers = []
    for outcome, (program, runs, _) in zip(outcomes, renewals, strict=True):
        answers.append(_answer(outcome, program, runs, _entry(places, program), []))
        if not as_json:
            _tell(outcome, program, runs, _entry(places, program), [], as_json=False)
    if as_json:
        output.print_json(answers[0] if len(paths) == 1 and not importers else {"entries": answers})


def _renewal(places: Places, entry: Entry) -> tuple[Program, Program | None, edit.Document]:
    """The program, its interpreter and what it imports, as they are now."""
    path = entry.program.path
    file = look_at(path) if entry.signer is None else signed_file(path, entry.signer)
    program = msgspec.structs.replace(file.program, path=path)
    if entry.interpreter is None:
        return program, None, {}
    interpreter = look_at(entry.interpreter.path).program
    return program, interpreter, imports.renewed(places, interpreter.path, entry.launch)


@click.command()
@click.argument("path")
@passphrase_option
@json_option
def unregister(path: str, as_json: bool) -> None:
    """Forget the program PATH and everything that it may do. It need not exist any more."""

    def forget(document: edit.Document) -> tuple[edit.Document, str]:
        known = config_file.known_path(document, path)
        return edit.unregister(document, known), known

    known = config_file.change(find_places(), forget)
    if as_json:
        output.print_json({"outcome": "unregistered", "path": known})
    else:
        output.say(f"unregistered {known}")


@click.command("list")
@json_option
def list_entries(as_json: bool) -> None:
    """Show the known programs and what they may do."""
    places = find_places()
    known = config_file.read(places)
    used = temporary.uses_now(places) if any(entry.temporary for entry in known.by_program.values()) else None
    told = {e.program.path: [*in_words(e), *temporary.told(e, used)] for e in known.by_program.values()}
    entries = [
        {**describe_entry(entry), "temporary_grants": temporary.described(entry, used), "grade": _grade_now(entry)}
        for entry in known.by_program.values()
    ]
    signers = describe_signers(known)
    problem = config_file.not_obeyed(places, quiet=as_json)
    if as_json:
        output.print_json(
            {"policy": places.policy, "not_obeyed": problem, "entries": entries, "trusted_signers": signers}
        )
        return
    if not entries:
        output.say("No program is registered. Next: keychain-auth register PATH")
        _tell_signers(signers)
        return
    rows = [
        (
            entry["path"],
            output.words(entry["allowed_read_services"]),
            output.words(entry["allowed_write_services"]),
            "yes" if entry["can_search"] else "no",
            "any" if entry["allowed_targets"] is None else output.words(entry["allowed_targets"]),
            entry["grade"] or "(missing)",
            entry["minimum_grade"],
            entry["interpreter"] or "-",
        )
        for entry in entries
    ]
    output.table(("program", "read", "write", "search", "targets", "grade", "asked for", "interpreter"), rows)
    for path, lines in told.items():
        output.say(*(f"{path}: {line}" for line in lines))
    _tell_signers(signers)


def _grade_now(entry: Entry) -> str | None:
    """The grade that the program has by where its file lies, without reading it; None if there is no such file.

    A script's is what it is at best. Whether a signature holds, ``check`` finds out.
    """
    if entry.interpreter is not None:
        return SCRIPT_GRADE.value
    try:
        return grade_of(entry.program.path).value
    except OSError:
        return None


def _tell_signers(signers: list[dict[str, str]]) -> None:
    for signer in signers:
        output.say(f"Programs signed by {signer['public_key']} may use {signer['service']}.")


def _too_weak(places: Places, program: Program, grade: Grade) -> list[str]:
    """A warning, if the program as it lies there will be refused for its grade."""
    known = config_file.read(places)
    entry = known.by_program[(program.path, program.sha256)]
    signature = look_at(program.path, known.signers).signature if entry.interpreter is None else None
    if reaches(known, Identity(program, grade, pid=0, uid=system.user_id(), signature=signature), entry.minimum_grade):
        return []
    denial = Denial(reasons.IDENTITY_NOT_VERIFIED, "minimum_grade", entry.minimum_grade, grade, entry)
    wanted = f"at least {entry.minimum_grade} is asked for: it will be refused"
    return [f"{program.path} is of grade {grade}, and {wanted}. Next: {mend(denial)}"]


def _entry(places: Places, program: Program) -> Entry:
    return config_file.read(places).by_program[(program.path, program.sha256)]


def _answer(
    outcome: str, program: Program, interpreter: Program | None, entry: Entry, warnings: list[str]
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "path": program.path,
        "hash": f"sha256:{program.sha256}",
        "interpreter": None if interpreter is None else interpreter.path,
        "minimum_grade": entry.minimum_grade.value,
        "warnings": warnings,
    }


def _tell(
    outcome: str, program: Program, interpreter: Program | None, entry: Entry, warnings: list[str], as_json: bool
) -> None:
    if as_json:
        output.print_json(_answer(outcome, program, interpreter, entry, warnings))
        return
    output.say(f"{outcome} {program.path}", f"  sha256:{program.sha256}")
    if interpreter is not None:
        output.say(f"  run by {interpreter.path}")
    for tree in (each for each in entry.launch.trees if os.path.lexists(each.path)):
        output.say(f"  imports from {tree.path}, as it is now")
    if interpreter is not None:
        tell_start(program.path, entry.minimum_grade)
    for warning in warnings:
        complain(f"warning: {warning}")
    if entry.on_behalf_of == ():
        output.say(
            "It answers nobody yet: who starts it waits for approval once (keychain-auth list-pending), or is named: "
            f"keychain-auth behalf {shlex.quote(program.path)} --allow PROGRAM"
        )
    if outcome == "registered":
        output.say(f"It has no permission yet. Next: keychain-auth authorize {shlex.quote(program.path)} SERVICE")
