"""The vault as a whole: ``vault check`` looks at every row.

Contract: nothing here shows a value. What is not in order is named by service and target, and makes the exit code 1.
"""

from __future__ import annotations

import asyncio
import os

import click
import msgspec

from keychain_auth.cli.report import complain
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.offline import open_alone
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.client import admin
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.errors import EXIT_DONE, EXIT_FAILED, DaemonNotRunning, KeychainAuthError, NotFound
from keychain_auth.keychain.vault.checking import CheckReport
from keychain_auth.keychain.vault.opening import vault_path

_CHECK_SECONDS = 600.0


@click.group("vault", no_args_is_help=False)
def vault() -> None:
    """Look after the vault."""


@vault.command("check")
@socket_option
@passphrase_option
@json_option
def check(socket: str | None, as_json: bool) -> int:
    """Look at every page, every value and every earlier value of the vault, while the daemon serves or without it.

    Exit code 1 if something does not authenticate or does not add up; each such thing is named.
    """
    try:
        answer = admin.ask("vault-check", socket=socket, timeout=_CHECK_SECONDS)
    except DaemonNotRunning:
        return show(asyncio.run(_alone(find_places(socket))), as_json)
    try:
        report = msgspec.convert(answer, CheckReport)
    except msgspec.ValidationError:
        raise KeychainAuthError("this daemon is of another version than this command") from None
    return show(report, as_json)


async def _alone(places: Places) -> CheckReport:
    if not os.path.lexists(vault_path(places.vault)):
        raise NotFound(f"there is no vault in {places.vault}", hint="keychain-auth start")
    vault = open_alone(places)
    try:
        return await vault.check()
    finally:
        await vault.close()


def show(report: CheckReport, as_json: bool) -> int:
    """Print what was found; the exit code."""
    if as_json:
        output.print_json({**msgspec.to_builtins(report), "ok": report.ok})
    elif report.ok:
        output.say(
            f"The vault is in order: {report.secrets} secrets in {report.services} services, "
            f"{report.earlier_values} earlier values."
        )
    else:
        for finding in report.findings:
            complain(f"the vault is damaged: {finding}")
        complain(
            f"{len(report.findings)} findings in {report.secrets} secrets and {report.earlier_values} earlier values",
            "stop the daemon, then restore a backup",
        )
    return EXIT_DONE if report.ok else EXIT_FAILED
