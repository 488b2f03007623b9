"""``keychain-auth audit verify``, and the same question for other commands: is the record whole?"""

from __future__ import annotations

import asyncio
import os

import click
import msgspec

from keychain_auth.audit import verify as audit_verify
from keychain_auth.cli.report import complain
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.offline import open_alone
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.client import admin
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.daemon.state.audit_mark import marked_in
from keychain_auth.errors import EXIT_DONE, EXIT_FAILED, DaemonNotRunning, KeychainAuthError, NotFound
from keychain_auth.keychain.vault.opening import FILE_NAME

_VERIFY_SECONDS = 600.0  # ten full files take some seconds; a slow disk takes longer


@click.command()
@socket_option
@passphrase_option
@json_option
def verify(socket: str | None, as_json: bool) -> int:
    """Verify the whole audit log. Exit code 1 names the first line that does not fit.

    A running daemon is asked, because it also knows how far the log must reach. Without one the vault is opened for
    the log's key.
    """
    report, asked = whole(socket)
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
        output.say(
            "No daemon runs: of lines since the vault last remembered one, nobody can tell whether they are missing."
        )
    return EXIT_DONE


def whole(socket: str | None) -> tuple[audit_verify.Report, bool]:
    """What verifying found, and whether a running daemon was asked. Raises KeychainAuthError."""
    try:
        return _ask_daemon(socket), True
    except DaemonNotRunning:
        return asyncio.run(_verify_alone(find_places(socket))), False


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
        return audit_verify.verify(places.audit_log, vault.audit_key(), marked=marked_in(vault))
    finally:
        await vault.close()
