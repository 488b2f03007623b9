"""``keychain-auth migrate``: a service's secrets from one keychain into another.

Contract: copies, reads every copy back, and removes nothing unless that is asked for; nothing that differs is
overwritten unless that is asked for. Stopped in the middle, it is run again. No value is shown.
"""

from __future__ import annotations

from typing import Any

import click

from keychain_auth.cli.report import complain, printable
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import checked_service, json_option, passphrase_option, socket_option
from keychain_auth.client import admin
from keychain_auth.errors import EXIT_FAILED, UsageError

_SECONDS = 3600.0  # a desktop's keyring writes its whole file for each secret
_LISTS = ("copied", "alike", "differing", "unreadable", "removed")


@click.command("migrate")
@click.argument("service")
@click.option("--from", "source", metavar="KEYCHAIN", required=True, help="Where the secrets are: secret-service, …")
@click.option("--to", "destination", metavar="KEYCHAIN", required=True, help="Where they are to be: vault, …")
@click.option("--dry-run", is_flag=True, help="Only say what would be copied.")
@click.option("--replace", is_flag=True, help="Where both have another value, take that of --from.")
@click.option("--delete", is_flag=True, help="Afterwards remove from --from what --to has alike.")
@socket_option
@passphrase_option
@json_option
def migrate(
    service: str,
    source: str,
    destination: str,
    dry_run: bool,
    replace: bool,
    delete: bool,
    socket: str | None,
    as_json: bool,
) -> int:
    """Copy all secrets of SERVICE from one keychain into another.

    Each copy is read back and compared. What the other keychain has already is left as it is; if it differs, it is
    named, and the exit code is 1. The command can be stopped and run again. Which keychain programs get SERVICE from is
    set in daemon.toml, [keychains.routes].
    """
    if dry_run and delete:
        raise UsageError("--dry-run removes nothing: leave --delete out")
    fields = {"service": checked_service(service), "keychain": source, "to": destination}
    with admin.Conversation(socket=socket, timeout=_SECONDS) as daemon:
        done = _all(daemon, "migrate", fields, dry_run=dry_run, replace=replace)
        complete = not (done["differing"] or done["unreadable"])
        if delete and complete:
            done["removed"] = _all(daemon, "migrate-remove", fields)["removed"]
    if as_json:
        output.print_json({"service": service, "from": source, "to": destination, "dry_run": dry_run, **done})
    else:
        _say(service, source, destination, done, dry_run=dry_run, delete=delete and complete)
    if complete:
        return 0
    if not as_json:
        complain(
            f"not everything of {service} is in {destination}" + (", so nothing was removed" if delete else ""),
            "decide which value is right; --replace takes that of --from",
        )
    return EXIT_FAILED


def _all(daemon: admin.Conversation, command: str, fields: dict[str, Any], **more: bool) -> dict[str, Any]:
    """Every step of a command, added up."""
    found: dict[str, Any] = {name: [] for name in _LISTS}
    after = ""
    while True:
        step: dict[str, Any] = daemon.ask(command, after=after, **fields, **more)
        for name in _LISTS:
            found[name] += step[name]
        after = step["next"]
        if not after:
            found["routed"] = step["routed"]
            return found


def _say(service: str, source: str, destination: str, done: dict[str, Any], *, dry_run: bool, delete: bool) -> None:
    copied = "would be copied" if dry_run else "copied"
    output.say(
        f"{service}, from {source} to {destination}: {len(done['copied'])} {copied}, {len(done['alike'])} there already"
    )
    for name, text in (("differing", "has another value there"), ("unreadable", "is not text, and was left")):
        for target in done[name]:
            output.say(f"{printable(target)} {text}")
    if delete:
        output.say(f"{len(done['removed'])} removed from {source}")
    if done["routed"] != destination:
        output.say(
            f"programs still get {service} from {done['routed']}. To change that: "
            f'"{service}" = "{destination}" in daemon.toml, [keychains.routes], and restart'
        )
