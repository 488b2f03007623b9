"""``keychain-auth audit tail|verify``: what was asked for, and whether the record is whole."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

import click
import msgspec

from keychain_auth.audit import reading
from keychain_auth.audit import verify as audit_verify
from keychain_auth.cli import output
from keychain_auth.cli.offline import open_alone
from keychain_auth.cli.options import json_option, passphrase_option, socket_option
from keychain_auth.cli.report import complain
from keychain_auth.client import admin
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.errors import EXIT_DONE, EXIT_FAILED, DaemonNotRunning, KeychainAuthError, NotFound
from keychain_auth.keychain.vault.opening import FILE_NAME

_VERIFY_SECONDS = 600.0  # ten full files take some seconds; a slow disk takes longer
# What the daemon adds to a line that waited for the vault's key (``daemon.locking.late_audit``).
_MADE_BEFORE = re.compile(r"(?:^|; )made (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ), before the vault was unlocked$")
_COLUMNS = ("timestamp", "action", "result", "reason", "program", "service", "targets", "detail")


@click.group(no_args_is_help=False)
def audit() -> None:
    """Read the audit log, or verify it."""


@audit.command()
@click.option("-n", "--lines", type=click.IntRange(min=1), default=20, show_default=True, help="How many lines.")
@json_option
def tail(lines: int, as_json: bool) -> None:
    """Show the last lines of the audit log, oldest first. Nothing is verified."""
    path = find_places().audit_log
    found = reading.tail(path, lines) if os.path.isdir(os.path.dirname(path)) else []
    if not found:
        raise NotFound(f"there is no audit log {path} yet", hint="keychain-auth start")
    if as_json:
        output.print_json(found)
    else:
        output.table(_COLUMNS, [_row(line) for line in found])


@audit.command()
@socket_option
@passphrase_option
@json_option
def verify(socket: str | None, as_json: bool) -> int:
    """Verify the whole audit log. Exit code 1 names the first line that does not fit.

    A running daemon is asked, because it also knows how far the log must reach. Without one the vault is opened for
    the log's key.
    """
    try:
        report = _ask_daemon(socket)
        asked = True
    except DaemonNotRunning:
        report = asyncio.run(_verify_alone(find_places(socket)))
        asked = False
    if as_json:
        output.print_json({**msgspec.to_builtins(report), "asked_daemon": asked})
        return EXIT_DONE if report.ok else EXIT_FAILED
    for warning in report.warnings:
        complain(f"warning: {warning}")
    problem = report.first_problem
    if problem is not None:
        where = f"{problem.file}, line {problem.line}" if problem.line else problem.file
        complain(f"the audit log does not fit: {where}: {problem.what}", "keychain-auth audit tail")
        return EXIT_FAILED
    output.say(
        f"The audit log fits: {report.lines} lines in {report.files} {'file' if report.files == 1 else 'files'}."
    )
    if not asked:
        output.say("No daemon runs: whether the log was put back to an older state as a whole cannot be told.")
    return EXIT_DONE


def _ask_daemon(socket: str | None) -> audit_verify.Report:
    answer = admin.ask("audit-verify", socket=socket, timeout=_VERIFY_SECONDS)
    try:
        return msgspec.convert(answer, audit_verify.Report)
    except msgspec.ValidationError:
        raise KeychainAuthError("this daemon is of another version than this command") from None


async def _verify_alone(places: Places) -> audit_verify.Report:
    if not os.path.lexists(os.path.join(places.vault, FILE_NAME)):
        # open_vault would make a new one, with a key that fits no line.
        raise NotFound(f"there is no vault in {places.vault}, and so no key to verify with")
    vault = open_alone(places)
    try:
        return audit_verify.verify(places.audit_log, vault.audit_key())
    finally:
        await vault.close()


def _row(line: dict[str, Any]) -> tuple[object, ...]:
    if "unparsable" in line:
        return ("?", "?", "?", "not a line of an audit log", line["unparsable"], "", "", "")
    targets = line.get("targets")
    return (
        _when(line),
        line.get("action") or "",
        line.get("result") or "",
        _reason(line),
        line.get("script_path") or line.get("binary_path") or "",
        line.get("service") or "",
        ", ".join(map(str, targets)) if isinstance(targets, list) else "",
        _MADE_BEFORE.sub("", str(line.get("detail") or "")),
    )


def _when(line: dict[str, Any]) -> str:
    """When it happened. A line that waited for the vault to be unlocked says when it was written, too: the first time
    is read from its text, and only the second one is the log's word."""
    written = str(line.get("timestamp") or "")
    made = _MADE_BEFORE.search(str(line.get("detail") or ""))
    return f"{made[1]} (written {written})" if made else written


def _reason(line: dict[str, Any]) -> str:
    """A line that counts refusals says how many."""
    times = f"{line['count']} times" if isinstance(line.get("count"), int) else ""
    return " ".join(filter(None, (str(line.get("reason") or ""), times)))
