"""``keychain-auth explain``: what would happen to a request, and which line of config.json decides.

Decided by the daemon's own functions, from the files as they lie there now: see ``judging`` for what a running process
has besides.
"""

from __future__ import annotations

from typing import Any, get_args

import click

from keychain_auth import files
from keychain_auth.cli.shared import config_file, output
from keychain_auth.cli.shared.judging import held, known_name, present
from keychain_auth.cli.shared.options import checked_prefix, checked_service, checked_target, json_option
from keychain_auth.cli.shared.programs import spellings
from keychain_auth.cli.shared.signers import seen_builds
from keychain_auth.cli.shared.temporary import agents_of, standing_in_the_way, uses_now
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.daemon.settings import load_settings
from keychain_auth.errors import EXIT_DENIED, EXIT_DONE, EXIT_NOT_FOUND, NotFound
from keychain_auth.keychain.routes import Routes
from keychain_auth.model import Action, Denial, Entry, Request
from keychain_auth.policy import deciding
from keychain_auth.policy.explain import explain as in_words
from keychain_auth.policy.explain import mend
from keychain_auth.reasons import PENDING_APPROVAL

_ACTIONS: tuple[Action, ...] = tuple(action for action in get_args(Action) if action != "check")


@click.command()
@click.argument("program")
@click.argument("service")
@click.argument("target", required=False)
@click.option("--action", type=click.Choice(_ACTIONS), help="Only this one; otherwise each of them is answered.")
@click.option("--prefix", is_flag=True, help="TARGET is a prefix: what begins with it is meant.")
@click.option("--behind", metavar="AGENT", help="While this program stands behind it: for grants that end.")
@json_option
def explain(
    program: str,
    service: str,
    target: str | None,
    action: Action | None,
    prefix: bool,
    behind: str | None,
    as_json: bool,
) -> int:
    """What would happen if PROGRAM asked for TARGET of SERVICE, and which line of config.json decides?

    Without TARGET the question is about any target. Where several agents have grants that end for SERVICE, each of them
    is answered, unless --behind names one. Exit code 0: all that was asked about would be granted. 3: not all
    of it. 6: the program is not known.
    """
    checked_service(service)
    if target is not None:
        (checked_prefix if prefix else checked_target)(target)
    elif prefix:
        raise click.UsageError("--prefix needs a TARGET")
    places = find_places()
    answer: dict[str, Any] = {
        "program": spellings(program)[0],
        "service": service,
        "target": target,
        "policy": places.policy,
        "not_obeyed": config_file.not_obeyed(places, quiet=as_json),
        "keychain": _keychain(places, service),
    }
    targets = () if target is None else (target,)
    requests = [
        Request(each, service, "prefix" if prefix and each != "write" else "exact", targets)
        for each in ([action] if action else _ACTIONS)
    ]
    code = _judge(places, program, requests, answer, None if behind is None else spellings(behind)[0])
    if as_json:
        output.print_json(answer)
    else:
        _tell(answer)
    return code


def _judge(places: Places, program: str, requests: list[Request], answer: dict[str, Any], behind: str | None) -> int:
    """Put what would become of each request into ``answer``; the exit code."""
    known = config_file.read(places)
    try:
        name = known_name(known, program)
        entry, grade, problem = present(known, name, seen_builds(places))
    except NotFound as missing:
        entry, grade = None, None
        problem = Denial(PENDING_APPROVAL, "path", answer["program"], "no entry for this path")
        answer["mend"] = missing.hint
    else:
        answer["program"] = name
        problem = (held(places, name, entry) if entry is not None else None) or problem
    content = b"" if entry is None else files.read_private(places.policy)
    answer["grade"] = grade
    used = uses_now(places) if entry is not None and entry.temporary else None

    def verdicts(agent: str | None) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for request in requests:
            refusal = problem or (None if entry is None else standing_in_the_way(entry, request, used, agent))
            said[request.action] = _verdict(content, entry, request, refusal, agent)
        return said

    agents = [] if entry is None else agents_of(entry, answer["service"])
    if behind is None and len(agents) > 1:
        answer["behind"] = {agent: verdicts(agent) for agent in agents}
        answer["actions"] = {request.action: _of_all(answer["behind"], request.action) for request in requests}
    else:
        answer["actions"] = verdicts(behind)
    if entry is None:
        return EXIT_NOT_FOUND
    return EXIT_DONE if all(one["granted"] for one in answer["actions"].values()) else EXIT_DENIED


def _of_all(behind: dict[str, dict[str, Any]], action: str) -> dict[str, Any]:
    """The first refusal, whichever agent meets it; granted only where all of them are."""
    verdicts = [actions[action] for actions in behind.values()]
    found: dict[str, Any] = next((verdict for verdict in verdicts if not verdict["granted"]), verdicts[0])
    return found


def _verdict(
    content: bytes, entry: Entry | None, request: Request, denial: Denial | None, agent: str | None
) -> dict[str, Any]:
    if denial is not None:
        return {
            "granted": False,
            "reason": denial.reason,
            "why": in_words(denial),
            "mend": mend(denial, request.service),
            "lines": [line._asdict() for line in deciding.why_not(content, denial, request)],
        }
    lines = [] if entry is None else deciding.why(content, entry, request, agent)
    return {"granted": True, "lines": [line._asdict() for line in lines]}


def _keychain(places: Places, service: str) -> str:
    """Where the daemon would look for the service, by its settings as they are on disk."""
    keychains = load_settings(places.settings).keychains
    return Routes(keychains.default, keychains.routes).find(service)


def _tell(answer: dict[str, Any]) -> None:
    wanted = answer["service"] if answer["target"] is None else f"{answer['target']} of {answer['service']}"
    output.say(f"If {answer['program']} asks for {wanted} (keychain {answer['keychain']}), by {answer['policy']}:")
    if answer["grade"] is not None:
        output.say(f"  it is known at grade {answer['grade']}")
    told: set[str] = set()
    for agent, actions in answer.get("behind", {"": answer["actions"]}).items():
        if agent:
            output.say(f"  while {agent} stands behind it:")
        _tell_actions(actions, told)
    if answer.get("mend") and answer["mend"] not in told:
        output.say(f"Next: {answer['mend']}")


def _tell_actions(actions: dict[str, Any], told: set[str]) -> None:
    for action, verdict in actions.items():
        word = "granted" if verdict["granted"] else f"refused, {verdict['reason']}"
        output.say(f"  {action:<6} {word}")
        why = verdict.get("why", "")
        for text in (why, *(f"config.json line {one['line']}: {one['field']}" for one in verdict["lines"])):
            if text:
                output.say(f"         {text}")
        if verdict.get("mend") and verdict["mend"] not in told:
            output.say(f"         Next: {verdict['mend']}")
            told.add(verdict["mend"])
