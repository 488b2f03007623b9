"""``keychain-auth audit report``: the record as one page to look at."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from keychain_auth import files
from keychain_auth.audit import reading
from keychain_auth.audit.summary import Summary, summarise
from keychain_auth.cli.commands.auditing import verifying
from keychain_auth.cli.commands.auditing.page import Chain, page
from keychain_auth.cli.commands.auditing.rows import query, query_options
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import KeychainAuthError, NotFound, quoted


@click.command()
@click.option("--html", "file", metavar="FILE", type=click.Path(dir_okay=False), help="Write the page to FILE.")
@query_options
@socket_option
@passphrase_option
@json_option
def report(file: str | None, socket: str | None, as_json: bool, **asked: Any) -> None:
    """Sum the audit log up: a timeline, who asks most and for what, who asked for the first time.

    With --html one page that needs no network: open it in any browser. It replaces FILE, and holds names of programs
    and targets, so it is yours alone (0600). Whether the record is whole is verified and said.
    """
    places = find_places(socket)
    if not os.path.isdir(os.path.dirname(places.audit_log)):
        raise NotFound(f"there is no audit log {places.audit_log} yet", hint="keychain-auth start")
    wanted = query(**asked)
    summary = summarise(line for line in reading.iterate(places.audit_log) if wanted.wants(line))
    chain = _chain(socket)
    if file is not None:
        text = page(
            summary,
            chain,
            title="keychain-auth: who asked for what",
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            period=_period(summary, asked),
        )
        try:
            files.replace(os.path.abspath(file), text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise KeychainAuthError(f"cannot write {file}: {error.strerror}", hint=f"ls -ld {quoted(file)}") from None
    if as_json:
        output.print_json({"chain": chain._asdict(), "file": file, **_plain(summary)})
    else:
        _tell(summary, chain, file)


def _chain(socket: str | None) -> Chain:
    try:
        found, asked = verifying.whole(socket)
    except KeychainAuthError as error:
        return Chain("unsure", f"Not verified: {error}")
    problem = found.first_problem
    if problem is not None:
        where = f"{problem.file}, line {problem.line}" if problem.line else problem.file
        return Chain("alarm", f"The record does not fit: {where}: {problem.what}")
    behind = "" if asked else " No daemon ran: an older copy in its place would not have been noticed."
    return Chain("calm", f"The record is whole: the chain of all {found.lines:,} lines fits.{behind}")


def _period(summary: Summary, asked: dict[str, Any]) -> str:
    chosen = ", ".join(f"{name} {value}" for name, value in asked.items() if value)
    of = f" of the lines with {chosen}" if chosen else ""
    return f"From {summary.first[:19] or 'nothing'} to {summary.last[:19] or 'nothing'}{of}"


def _plain(summary: Summary) -> dict[str, Any]:
    plain = msgspec.to_builtins(summary)
    return {
        **plain,
        "programs": [{"program": name, **counts} for name, counts in plain["programs"]],
        "services": [{"service": name, **counts} for name, counts in plain["services"]],
        "reasons": dict(plain["reasons"]),
    }


def _tell(summary: Summary, chain: Chain, file: str | None) -> None:
    output.say(chain.says)
    for line in summary.canaries:
        output.shout(f"{line.get('timestamp')}: {line.get('detail')}")
    counts = summary.counts
    output.say(f"{counts.granted} granted, {counts.denied} denied, {counts.failed} failed, in {summary.lines} lines.")
    if file is not None:
        output.say(f"The page is {file}")
        return
    for title, tallies in (("program", summary.programs), ("service", summary.services)):
        if tallies:
            output.say("")
            rows = [(name, tally.granted, tally.denied, tally.failed) for name, tally in tallies]
            output.table((title, "granted", "denied", "failed"), rows)
    if summary.first_seen:
        output.say("")
        output.table(
            ("first seen", "program", "answer"),
            [(one.when[:19], one.path, one.reason or one.result.lower()) for one in summary.first_seen],
        )
