"""``keychain-auth check``: may this program do that, and if not, why not. Decided by the daemon's own functions.

It looks at the file on disk. A process that was started from an older version of it is judged by that version.
"""

from __future__ import annotations

import os
from typing import Any

import click

from keychain_auth.cli import output, policy
from keychain_auth.cli.location import grade_of
from keychain_auth.cli.options import checked_service, json_option
from keychain_auth.cli.programs import look_at, spellings
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import EXIT_DENIED, EXIT_DONE, EXIT_NOT_FOUND, KeychainAuthError, NotFound
from keychain_auth.model import Action, Denial, Entry, Grade, Identity, Program, Request
from keychain_auth.policy.decide import decide
from keychain_auth.policy.explain import describe_entry, explain, mend
from keychain_auth.policy.match import match
from keychain_auth.policy.parse import Policy

_ASKED: tuple[Action, ...] = ("read", "write", "search")


@click.command()
@click.argument("path")
@click.argument("service", required=False)
@json_option
def check(path: str, service: str | None, as_json: bool) -> int:
    """Is the program PATH known, is it still the file that was registered, and may it use SERVICE?

    Exit code 0: it is known and, with SERVICE, has full access (read, write and search). 3: it is not what was
    registered, or lacks some of that. 6: it is not known.
    """
    if service is not None:
        checked_service(service)
    known = policy.read(find_places())
    try:
        name = policy.known_program(known, path)
    except NotFound as missing:
        if not as_json:
            raise _better_advised(missing, path) from None
        output.print_json({"path": spellings(path)[0], "registered": False, "allowed": False})
        return EXIT_NOT_FOUND
    entry, grade, problem = _present(known, name)
    answer: dict[str, Any] = {
        "path": name,
        "registered": True,
        "fits": problem is None,
        "why": None if problem is None else explain(problem),
        "mend": "" if problem is None else mend(problem),
        "grade": grade,
        "entry": describe_entry(entry),
    }
    allowed = problem is None
    if service is not None:
        answer["service"] = service
        answer["actions"] = {action: _judged(entry, action, service) for action in _ASKED}
        full = decide(entry, Request("check", service))
        allowed = allowed and not isinstance(full, Denial)
    answer["allowed"] = allowed
    if as_json:
        output.print_json(answer)
    else:
        _tell(answer, entry)
    return EXIT_DONE if allowed else EXIT_DENIED


def _present(known: Policy, name: str) -> tuple[Entry, Grade | None, Denial | None]:
    """The entry that the files of this moment match or the nearest one, the grade of its program, what does not fit."""
    nearest = known.by_path[name][0]
    try:
        program = Program(name, look_at(name).program.sha256)
        if nearest.interpreter is None:
            identity = Identity(program, grade_of(name), pid=0, uid=os.geteuid())
        else:
            interpreter = look_at(nearest.interpreter.path).program
            # The best that a script can be: launched. Started otherwise, it is declared.
            identity = Identity(interpreter, Grade.LAUNCHED, pid=0, uid=os.geteuid(), script=program)
    except KeychainAuthError as error:
        return nearest, None, Denial("unregistered_binary_pending_approval", "path", name, str(error), nearest)
    found = match(known, identity)
    if isinstance(found, Denial):
        return found.entry or nearest, identity.grade, found
    return found, identity.grade, None


def _judged(entry: Entry, action: Action, service: str) -> dict[str, Any]:
    decision = decide(entry, Request(action, service))
    if isinstance(decision, Denial):
        return {
            "allowed": False,
            "reason": decision.reason,
            "why": explain(decision),
            "mend": mend(decision, service),
        }
    return {"allowed": True}


def _better_advised(missing: NotFound, path: str) -> NotFound:
    try:
        script = look_at(path).is_script
    except KeychainAuthError:
        return NotFound(str(missing))  # a file that is not there cannot be registered
    if script:
        missing.hint = missing.hint.replace("register", "register --script")
    return missing


def _tell(answer: dict[str, Any], entry: Entry) -> None:
    output.say(answer["path"])
    if answer["fits"]:
        output.say(f"  registered {entry.registered_at}, and still the same file".replace(" ,", ","))
    else:
        output.say(f"  registered, but not as it is now: {answer['why']}")
        if answer["mend"]:
            output.say(f"    Next: {answer['mend']}")
    if entry.interpreter is not None:
        output.say(f"  a script, run by {entry.interpreter.path}")
    if answer["grade"] is not None:
        when = " at best" if entry.interpreter is not None else ""
        output.say(f"  grade {answer['grade']}{when}; at least {entry.minimum_grade} is asked for")
    for action, judged in answer.get("actions", {}).items():
        if judged["allowed"]:
            output.say(f"  may {action} {answer['service']}")
        else:
            output.say(f"  may not {action} {answer['service']}: {judged['why']}", f"    Next: {judged['mend']}")
    if entry.allowed_targets is not None:
        output.say(f"  targets: only those that begin with {', '.join(entry.allowed_targets) or 'nothing at all'}")
