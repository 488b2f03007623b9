"""``keychain-auth canary``: secrets that nobody has a reason to read, and who did."""

from __future__ import annotations

import os
from typing import Any

import click

from keychain_auth.cli.commands.secrets.secrets import value_from_stdin
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.client import admin


@click.group(no_args_is_help=False)
def canary() -> None:
    """Set a trap: a secret that no program needs. Whoever reads it is cut off, held and reported.

    To programs a canary looks like any other secret, and its alarm like a grant that was taken away.
    """


@canary.command()
@click.argument("service")
@click.argument("target")
@click.option("--value-stdin", is_flag=True, help="Take the value from stdin; otherwise it is random.")
@socket_option
@passphrase_option
@json_option
def add(service: str, target: str, value_stdin: bool, socket: str | None, as_json: bool) -> None:
    """Make TARGET of SERVICE a canary. There must be no such secret yet.

    Choose a name that a thief would want (prod:ROOT_KEY), and a service in which no program reads by prefix: a prefix
    that covers a canary fires, too.
    """
    value = value_from_stdin() if value_stdin else None
    admin.ask("canary-add", socket=socket, service=service, target=target, value=value)
    _done({"outcome": "added", "service": service, "target": target}, f"{service} {target} is a canary", as_json)


@canary.command("list")
@socket_option
@passphrase_option
@json_option
def list_canaries(socket: str | None, as_json: bool) -> None:
    """Show all canaries, and the programs that are held because they reached for one."""
    answer: dict[str, Any] = admin.ask("canary-list", socket=socket)
    if as_json:
        output.print_json(answer)
        return
    if answer["canaries"]:
        output.table(("service", "target"), [(one["service"], one["target"]) for one in answer["canaries"]])
    else:
        output.say("There is no canary.")
    for held in answer["held"]:
        output.shout(f"held since {held['when']}: {held['program']}")


@canary.command()
@click.argument("service")
@click.argument("target")
@socket_option
@passphrase_option
@json_option
def remove(service: str, target: str, socket: str | None, as_json: bool) -> None:
    """Remove a canary, and its secret. Exit code 6 if there is none of that name."""
    admin.ask("canary-remove", socket=socket, service=service, target=target)
    _done({"outcome": "removed", "service": service, "target": target}, f"removed {service} {target}", as_json)


@canary.command()
@click.argument("program", metavar="PROGRAM")
@socket_option
@passphrase_option
@json_option
def release(program: str, socket: str | None, as_json: bool) -> None:
    """Serve PROGRAM again, which was held because it reached for a canary. Find out first why it did."""
    path = os.path.realpath(program)
    admin.ask("canary-release", socket=socket, path=path)
    _done({"outcome": "released", "program": path}, f"released {path}", as_json)


def _done(answer: dict[str, str], text: str, as_json: bool) -> None:
    if as_json:
        output.print_json(answer)
    else:
        output.say(text)
