"""``keychain-auth audit``: what was asked for, and whether the record is whole."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from typing import Any

import click

from keychain_auth.audit import following, reading
from keychain_auth.audit.query import Query
from keychain_auth.cli.commands.auditing.exporting import export
from keychain_auth.cli.commands.auditing.reporting import report
from keychain_auth.cli.commands.auditing.rows import COLUMNS, query, query_options, row
from keychain_auth.cli.commands.auditing.verifying import verify
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import NotFound

_LOOK_SECONDS = 0.2
_EVERYTHING = Query()


@click.group(no_args_is_help=False)
def audit() -> None:
    """Read the audit log, search it, make a page of it, pass it on, or verify it."""


audit.add_command(verify)
audit.add_command(report)
audit.add_command(export)


@audit.command()
@click.option("-n", "--lines", type=click.IntRange(min=0), default=20, show_default=True, help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@query_options
@json_option
def tail(lines: int, follow: bool, as_json: bool, **asked: Any) -> None:
    """Show the last lines of the audit log, oldest first. Nothing is verified.

    With --follow, --json prints one object on a line.
    """
    if not lines and not follow:
        raise click.UsageError("-n 0 shows nothing, but with --follow")
    path, wanted = find_places().audit_log, query(**asked)
    everything = wanted == _EVERYTHING
    last = 0
    if os.path.isdir(os.path.dirname(path)):
        last = next((number for line in reading.backwards(path) if isinstance(number := line.get("seq"), int)), 0)
        found = reading.tail(path, lines) if everything else _last(path, wanted, lines)
    else:
        found = []
    if not last and not follow:
        raise NotFound(f"there is no audit log {path} yet", hint="keychain-auth start")
    if not follow:
        _show(found, as_json=as_json)
        return
    for line in found:
        _show_one(line, as_json=as_json)
    for line in following.follow(path, last, _wait):
        if wanted.wants(line):
            _show_one(line, as_json=as_json)


@audit.command()
@query_options
@click.option("--limit", type=click.IntRange(min=1), help="Only the last ones of what is found.")
@json_option
def search(limit: int | None, as_json: bool, **asked: Any) -> None:
    """Show all lines of the audit log, rotated files too, that fit every option. Nothing is verified.

    A line that cannot be read fits always. Exit code 6: nothing was found.
    """
    path, wanted = find_places().audit_log, query(**asked)
    if not os.path.isdir(os.path.dirname(path)):
        raise NotFound(f"there is no audit log {path} yet", hint="keychain-auth start")
    found = _last(path, wanted, limit)
    if not found:
        raise NotFound("no line of the audit log fits that", hint="keychain-auth audit tail")
    _show(found, as_json=as_json)


def _last(path: str, wanted: Query, count: int | None) -> list[reading.Line]:
    return list(deque((line for line in reading.iterate(path) if wanted.wants(line)), count))


def _show(found: list[reading.Line], *, as_json: bool) -> None:
    if as_json:
        output.print_json(found)
    else:
        output.table(COLUMNS, [row(line) for line in found], events=True)


def _show_one(line: reading.Line, *, as_json: bool) -> None:
    """At once, and on a line of its own: nobody knows yet how wide the next ones are."""
    if as_json:
        click.echo(json.dumps(line))
    else:
        output.say(output.in_a_line(row(line)))


def _wait() -> bool:
    time.sleep(_LOOK_SECONDS)
    return True
