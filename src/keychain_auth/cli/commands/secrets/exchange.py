"""``export`` and ``import``: secrets in the clear, in the forms of other programs.

Contract: an export is a new file of mode 0600, or stdout if that is no terminal; it is never encrypted, and says so. An
import shows with ``--dry-run`` what it would do, keeps what is there unless told to replace it, and can be repeated:
what is there already is not written again. Each use is in the audit log, with names and no values.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click

from keychain_auth.cli.commands.secrets import interchange
from keychain_auth.cli.commands.secrets.interchange import FORMATS, Secret
from keychain_auth.cli.report import complain
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import checked_service, json_option, passphrase_option, socket_option
from keychain_auth.client import admin
from keychain_auth.client.textfile import read_text
from keychain_auth.errors import NotFound, UsageError, quoted

_LARGEST = 64 * 1024 * 1024  # bytes of a file to import
_AT_ONCE = 200  # secrets in one transaction
_AT_ONCE_CHARS = 300_000
_format_option = click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="Whose form it has.")


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@_format_option
@click.option("--service", metavar="SERVICE", help="Only this service; all but json can hold no more than one.")
@passphrase_option
@socket_option
@json_option
def export(file: str, form: str, service: str | None, socket: str | None, as_json: bool) -> None:
    """Write secrets into a new FILE, or to stdout with -: in the clear, for everybody who can read it.

    For a copy to keep, use backup.
    """
    if form != "json" and not service:
        raise UsageError(f"{form} knows no services", hint="say which one with --service, or use --format json")
    if file == "-" and sys.stdout.isatty():
        raise UsageError("a terminal would show the secrets", hint="export into a file, or through a pipe")
    if file != "-" and os.path.lexists(file):
        raise UsageError(f"{file} exists already; nothing was written", hint=f"mv {quoted(file)} {quoted(file)}.old")
    services = [service] if service else admin.ask("services", socket=socket)
    secrets = [secret for each in services for secret in _stored(each, socket)]
    if service and not secrets:
        raise NotFound(f"there is no service {service}", hint="keychain-auth list-secrets")
    text = interchange.compose(form, secrets)
    if not output.deliver(text, file):
        return
    if as_json:
        output.print_json({"outcome": "exported", "file": file, "secrets": len(secrets)})
    else:
        output.say(f"exported {len(secrets)} secrets")
        complain(f"warning: {file} holds them in the clear; remove it when it has served")


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@_format_option
@click.option("--service", metavar="SERVICE", help="The service to store in, where the file names none.")
@click.option("--replace", is_flag=True, help="Replace what is there with another value; otherwise it is kept.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and store nothing.")
@passphrase_option
@socket_option
@json_option
def import_secrets(
    file: str, form: str, service: str | None, replace: bool, dry_run: bool, socket: str | None, as_json: bool
) -> None:
    """Store the secrets of FILE (- is stdin): dotenv, JSON, or an export of a password manager.

    Notes and one-time codes become secrets of their own, NAME:notes and NAME:totp; user name, address and folder become
    attributes, which searches show.
    """
    secrets = [_placed(secret, service) for secret in interchange.parse(form, read_text(file, _LARGEST, stdin=True))]
    done: dict[str, list[str]] = {"new": [], "replaced": [], "same": [], "kept": []}
    for batch in _batches(secrets):
        first = batch[0]
        said: dict[str, list[str]] = admin.ask(
            "put", socket=socket, service=first.service, entries={each.target: each.value for each in batch},
            attributes=dict(first.attributes), replace=replace, dry_run=dry_run,
        )  # fmt: skip
        for word, names in said.items():
            done[word] += [f"{first.service} {name}" for name in names]
    if as_json:
        output.print_json({"outcome": "looked" if dry_run else "imported", **done})
        return
    for word, names in done.items():
        for name in names if dry_run else ():
            output.say(f"{word:<9}{name}")
    counts = Counter({word: len(names) for word, names in done.items()})
    verb = "would be " if dry_run else ""
    output.say(
        f"{counts['new']} {verb}stored, {counts['replaced']} {verb}replaced, {counts['same']} there already, "
        f"{counts['kept']} kept as they are"
    )
    if counts["kept"]:
        complain("warning: what is there with another value was kept", "import again with --replace")


def _stored(service: str, socket: str | None) -> Iterator[Secret]:
    after = ""
    while page := admin.ask("page", socket=socket, service=service, after=after):
        rows: list[dict[str, Any]] = page
        for row in rows:
            yield Secret(service, row["target"], row["value"], row["attributes"])
        after = rows[-1]["target"]


def _placed(secret: Secret, service: str | None) -> Secret:
    if not secret.service and not service:
        raise UsageError("the file names no service", hint="say which one with --service")
    return secret._replace(service=checked_service(secret.service or service or ""))


def _batches(secrets: Sequence[Secret]) -> Iterator[list[Secret]]:
    """Those of one service with the same attributes together, as many as one request holds."""
    groups: dict[tuple[str, str], list[Secret]] = {}
    for secret in secrets:
        groups.setdefault((secret.service, json.dumps(dict(secret.attributes), sort_keys=True)), []).append(secret)
    for group in groups.values():
        batch: list[Secret] = []
        size = 0
        for secret in group:
            length = len(json.dumps(secret.value)) + len(json.dumps(secret.target))
            if batch and (len(batch) >= _AT_ONCE or size + length > _AT_ONCE_CHARS):
                yield batch
                batch, size = [], 0
            batch.append(secret)
            size += length
        yield batch
