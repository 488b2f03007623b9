"""``keychain-auth restart``: from the old daemon to the installed one, without refusing anybody."""

from __future__ import annotations

from typing import Any

import click

from keychain_auth.cli.report import complain
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, socket_option
from keychain_auth.client import admin


@click.command()
@socket_option
@json_option
def restart(socket: str | None, as_json: bool) -> None:
    """Let the running daemon become the installed one, after an upgrade or a change of daemon.toml.

    It keeps its sockets: requests that it has are answered, programs that connect meanwhile wait. Exit code 4 if no
    daemon runs.
    """
    before: dict[str, Any] = admin.ask("restart", socket=socket)
    status: dict[str, Any] = admin.ask("status", socket=socket)
    result = {"version": status["version"], "before": before["version"], "pid": status["pid"],
              "keychain": status["keychain"], "settings": status["settings"]}  # fmt: skip
    if as_json:
        output.print_json(result)
        return
    output.say(
        f"The daemon was restarted: version {result['version']} (before: {result['before']}), pid {result['pid']}"
    )
    if status["settings"]["problem"]:
        complain(f"{status['settings']['path']} is not obeyed: {status['settings']['problem']}")
    if status["keychain"].get("open") is False:
        output.say("The vault is locked now. Next: keychain-auth unlock")
