"""``keychain-auth doctor``: what is wrong here, and the command that mends it."""

from __future__ import annotations

import click

from keychain_auth.cli.commands.doctoring.checks import Checked, Level, examine
from keychain_auth.cli.commands.doctoring.gather import gather
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, socket_option
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import EXIT_DONE, EXIT_FAILED

_MARKS = {Level.OK: "ok", Level.UNKNOWN: "-", Level.ADVICE: "advice", Level.WRONG: "WRONG"}


@click.command()
@click.option("--strict", is_flag=True, help="Advice counts too: exit code 1 unless all is as well as it can be.")
@click.option("--quiet", is_flag=True, help="Show only what is wrong, or could be better.")
@socket_option
@json_option
def doctor(strict: bool, quiet: bool, socket: str | None, as_json: bool) -> int:
    """Check everything that can be wrong with an installation, and say for each how to mend it.

    Nothing is changed. Exit code 0: nothing is wrong (there may be advice). 1: something is.
    """
    found = examine(gather(find_places(socket)))
    bad = {Level.WRONG, Level.ADVICE} if strict else {Level.WRONG}
    healthy = not any(one.level in bad for one in found)
    if as_json:
        output.print_json({"healthy": healthy, "checks": [one._asdict() for one in found]})
    else:
        _tell([one for one in found if not quiet or one.level in (Level.WRONG, Level.ADVICE)])
        output.say(_summary(found))
    return EXIT_DONE if healthy else EXIT_FAILED


def _tell(found: list[Checked]) -> None:
    width = max((len(one.check) for one in found), default=0)
    for one in found:
        line = f"{_MARKS[one.level]:<6}  {one.check:<{width}}  {one.says}"
        if one.level is Level.WRONG:
            output.shout(line)
        else:
            output.say(line)
        if one.mend:
            output.say(f"{'':<{width + 10}}Next: {one.mend}")


def _summary(found: list[Checked]) -> str:
    counts = {level: sum(one.level is level for one in found) for level in Level}
    return f"{counts[Level.WRONG]} wrong, {counts[Level.ADVICE]} with advice, {counts[Level.OK]} in order."
