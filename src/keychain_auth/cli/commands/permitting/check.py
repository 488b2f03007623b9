"""``keychain-auth check``: may this program do that, and if not, why not. Decided by the daemon's own functions.

It looks at the file on disk, and says so if a running daemon does not obey that file.
A process that was started from an older version of it is judged by that version.
"""

from __future__ import annotations

import shlex
from typing import Any

import click

from keychain_auth.cli.report import complain
from keychain_auth.cli.shared import config_file, location, output, temporary
from keychain_auth.cli.shared.judging import held, known_name, present
from keychain_auth.cli.shared.options import checked_service, json_option
from keychain_auth.cli.shared.programs import look_at, spellings
from keychain_auth.cli.shared.signers import seen_builds
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.daemon.settings import load_settings
from keychain_auth.errors import EXIT_DENIED, EXIT_DONE, EXIT_NOT_FOUND, KeychainAuthError, NotFound
from keychain_auth.identity.signature import key_text
from keychain_auth.model import Action, Denial, Entry, Grade, Request
from keychain_auth.policy.decide import decide
from keychain_auth.policy.explain import describe_entry, explain, in_words, mend

_ASKED: tuple[Action, ...] = ("read", "write", "search")


@click.command()
@click.argument("path")
@click.argument("service", required=False)
@click.option("--read", is_flag=True, help="Ask only whether it may read SERVICE.")
@click.option("--write", is_flag=True, help="Ask only whether it may write SERVICE.")
@click.option("--search", is_flag=True, help="Ask only whether it may search SERVICE.")
@json_option
def check(path: str, service: str | None, as_json: bool, **only: bool) -> int:
    """Is the program PATH known, is it still the file that was registered, and may it use SERVICE?

    Of a script all that it imports is looked at too, as keychain-auth launch does.

    Without --read, --write and --search the question is full access: all three. Exit code 0: it is known and, with
    SERVICE, may do what was asked. 3: it is not what was registered, or lacks some of that. 6: it is not known.
    """
    if service is not None:
        checked_service(service)
    elif any(only.values()):
        raise click.UsageError("--read, --write and --search ask about a SERVICE")
    asked = [action for action in _ASKED if only[action]]
    places = find_places()
    known = config_file.read(places)
    not_obeyed = config_file.not_obeyed(places, quiet=as_json)
    try:
        name = known_name(known, path)
    except NotFound:
        if not as_json:
            raise
        output.print_json({"path": spellings(path)[0], "not_obeyed": not_obeyed, "registered": False, "allowed": False})
        return EXIT_NOT_FOUND
    entry, grade, problem = present(known, name, seen_builds(places))
    hold = held(places, name, entry)
    problem = hold or problem
    answer: dict[str, Any] = {
        "path": name,
        "not_obeyed": not_obeyed,
        "registered": not entry.automatic,
        "fits": problem is None,
        "field": None if problem is None else problem.field,
        "why": None if problem is None else explain(problem),
        "mend": "" if problem is None else mend(problem),
        "grade": grade,
        "entry": describe_entry(entry),
        "temporary_grants": [],
    }
    used = temporary.uses_now(places) if entry.temporary else None
    answer["temporary_grants"] = temporary.described(entry, used)
    answer["imports"] = imports = _imports(places, entry)
    allowed = problem is None and (imports["fit"] or entry.minimum_grade is Grade.DECLARED)
    if service is not None:
        answer["service"] = service
        answer["actions"] = {action: _judged(entry, action, service, used, hold) for action in asked or _ASKED}
        allowed = allowed and all(judged["allowed"] for judged in answer["actions"].values())
        if not asked:
            answer["full_access"] = hold is None and not isinstance(decide(entry, Request("check", service)), Denial)
            allowed = allowed and answer["full_access"]
    answer["allowed"] = allowed
    answer["warnings"] = _warnings(places, name)
    if as_json:
        output.print_json(answer)
    else:
        _tell(answer, entry)
    return EXIT_DONE if allowed else EXIT_DENIED


def _imports(places: Places, entry: Entry) -> dict[str, Any]:
    """Would what the script imports still be taken by ``keychain-auth launch``?"""
    if entry.launch.trees:
        from keychain_auth.daemon.attesting.trees import Trees  # noqa: PLC0415 - only where scripts can be launched

        try:
            settings = load_settings(places.settings)
            Trees(places.trees, location.trusted_filesystems(places), settings.hash_limit_bytes).verify(entry)
        except KeychainAuthError as error:
            return {"fit": False, "why": str(error), "mend": error.hint}
    return {"fit": True, "why": None, "mend": ""}


def _warnings(places: Places, name: str) -> list[str]:
    """What the daemon would refuse it for by where it lies."""
    try:
        return location.warnings_about(places, look_at(name))
    except KeychainAuthError:  # said already, as what does not fit
        return []


def _judged(
    entry: Entry, action: Action, service: str, used: dict[str, int] | None, hold: Denial | None
) -> dict[str, Any]:
    """``hold``: why the daemon gives it nothing at all."""
    decision = hold or temporary.standing_in_the_way(entry, Request(action, service), used)
    if decision is not None:
        return {
            "allowed": False,
            "reason": decision.reason,
            "why": explain(decision),
            "mend": mend(decision, service),
        }
    return {"allowed": True}


def _tell(answer: dict[str, Any], entry: Entry) -> None:
    output.say(answer["path"])
    _tell_fit(answer, entry)
    if entry.interpreter is not None:
        output.say(f"  a script, run by {entry.interpreter.path}")
    if not answer["imports"]["fit"]:
        output.say(f"  keychain-auth launch would refuse it: {answer['imports']['why']}")
        output.say(f"    Next: {answer['imports']['mend']}")
    if answer["grade"] is not None:
        how = f" when it is started by keychain-auth launch {shlex.quote(answer['path'])}" if entry.interpreter else ""
        output.say(f"  grade {answer['grade']}{how}; at least {entry.minimum_grade} is asked for")
    _tell_actions(answer)
    for line in (*in_words(entry), *(grant["in_words"] for grant in answer["temporary_grants"])):
        output.say(f"  {line}")
    if entry.allowed_targets is not None:
        output.say(f"  targets: only those that begin with {', '.join(entry.allowed_targets) or 'nothing at all'}")
    for warning in answer["warnings"]:
        complain(f"warning: {warning}")


def _tell_actions(answer: dict[str, Any]) -> None:
    for action, judged in answer.get("actions", {}).items():
        if judged["allowed"]:
            output.say(f"  may {action} {answer['service']}")
        else:
            output.say(f"  may not {action} {answer['service']}: {judged['why']}")
            if judged["mend"]:
                output.say(f"    Next: {judged['mend']}")
    if answer.get("full_access") is False:
        output.say("  so it has no full access. If it needs less, ask for that: --read, --write, --search")


def _tell_fit(answer: dict[str, Any], entry: Entry) -> None:
    if entry.signer is not None:
        by = f"signed by {key_text(entry.signer)}"
        output.say(f"  not registered, but {by}" if entry.automatic else f"  counts as the same program if {by}")
    if entry.automatic and answer["fits"]:
        output.say(f"  so it has full access to {', '.join(sorted(entry.read_services))}")
    elif answer["fits"]:
        output.say(f"  registered {entry.registered_at}, and still the same file".replace(" ,", ","))
    else:
        how = "not as it is now" if answer["field"] in ("hash", "interpreter") else "it would be refused"
        output.say(f"  registered, but {how}: {answer['why']}")
        if answer["mend"]:
            output.say(f"    Next: {answer['mend']}")
