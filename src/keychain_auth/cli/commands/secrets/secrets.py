"""Secrets for people, over the admin socket: ``set``, ``get``, ``list-secrets``, ``rm``.

Contract: a value comes from a prompt that does not show it, or from stdin; never from an argument, which every process
of this machine could read (proc_pid_cmdline(5)). Each use is in the audit log.
"""

from __future__ import annotations

import getpass
import sys
import warnings
from typing import Any

import click

from keychain_auth.cli.commands.secrets import clipboard
from keychain_auth.cli.fetch import fetch
from keychain_auth.cli.report import printable
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.client import admin, references
from keychain_auth.client.terminal import stdin_is_nothing
from keychain_auth.errors import KeychainAuthError, NotFound, UsageError, quoted

_LONGEST_INPUT = 16 * 1024 * 1024  # bytes; the daemon's own limit is far below, and it is the one that counts


@click.command("set")
@click.argument("service")
@click.argument("target")
@click.option("--stdin", "exactly", is_flag=True, help="All of stdin, byte for byte, a newline at its end too.")
@socket_option
@passphrase_option
@json_option
def set_secret(service: str, target: str, exactly: bool, socket: str | None, as_json: bool) -> None:
    """Store a secret. The value is asked for, or is read from stdin.

    On a terminal it is asked for twice and not shown. Otherwise it is all of stdin, without one newline at its end
    (with --stdin: as it is). It is never taken from the command line, where other programs could see it.
    """
    asked = not exactly and sys.stdin is not None and sys.stdin.isatty()
    value = _prompted(service, target) if asked else value_from_stdin(exactly=exactly)
    admin.ask("set", socket=socket, service=service, target=target, value=value)
    if as_json:
        output.print_json({"outcome": "stored", "service": service, "target": target})
    else:
        output.say(f"stored {service} {target}")


@click.command("get")
@click.argument("service")
@click.argument("target")
@click.option("--prefix", is_flag=True, help="All secrets that begin with TARGET, as one JSON document (--json).")
@click.option("--clip", is_flag=True, help="Onto the clipboard, and not to stdout.")
@click.option(
    "--clip-seconds",
    type=click.IntRange(1, 3600),
    default=45,
    show_default=True,
    help="So long, unless it changed.",
)
@socket_option
@passphrase_option
@json_option
def get_secret(
    service: str, target: str, prefix: bool, clip: bool, clip_seconds: int, socket: str | None, as_json: bool
) -> None:
    """Print the value of a secret.

    To a terminal: the value and a newline, control characters escaped. Anywhere else (a pipe, a file, a variable):
    exactly its bytes, with no newline added.
    """
    if prefix:
        if clip or not as_json:
            raise UsageError("several values are one JSON document: add --json", hint="keychain-auth get --help")
        names = names_under(service, target, socket)
        wanted = {name: (service, name) for name in names}
        values = references.fetch(wanted, socket=socket, undone="nothing is shown")
        output.print_json([{"service": service, "target": name, "value": values[name]} for name in names])
    elif clip:
        value: str = admin.ask("get", socket=socket, service=service, target=target)
        done = clipboard.put(value, clip_seconds)
        if as_json:
            output.print_json({"outcome": "copied", "service": service, "target": target})
        else:
            output.say(f"{service} {target}: {done}")
    else:
        fetch(service, target, socket, as_json)


@click.command("list-secrets")
@click.argument("service", required=False)
@click.option("--prefix", metavar="PREFIX", default="", help="Only targets that begin with PREFIX.")
@click.option("--keychain", metavar="KEYCHAIN", default="", help="What lies there, whatever daemon.toml routes to it.")
@socket_option
@passphrase_option
@json_option
def list_secrets(service: str | None, prefix: str, keychain: str, socket: str | None, as_json: bool) -> None:
    """Show the names of the stored secrets, never a value."""
    rows: list[dict[str, Any]] = admin.ask(
        "list", socket=socket, service=service or "", prefix=prefix, keychain=keychain
    )
    if as_json:
        output.print_json(rows)
    elif not rows:
        output.say("No such secret.")
        if service or prefix:
            output.say("Next, to see which there are: keychain-auth list-secrets")
    else:
        output.table(
            ("service", "target", "attributes"),
            [
                (row["service"], row["target"], ", ".join(f"{name}={text}" for name, text in row["attributes"].items()))
                for row in rows
            ],
        )


@click.command("rm")
@click.argument("service")
@click.argument("target")
@click.option("--prefix", is_flag=True, help="All secrets that begin with TARGET; shown first, and asked about.")
@click.option("--yes", is_flag=True, help="With --prefix: do not ask.")
@socket_option
@passphrase_option
@json_option
def remove_secret(service: str, target: str, prefix: bool, yes: bool, socket: str | None, as_json: bool) -> None:
    """Remove a secret. Exit code 6 if there is none of that name. Its earlier values stay (see history)."""
    if prefix:
        _remove_all(service, names_under(service, target, socket), yes, socket, as_json)
        return
    admin.ask("rm", socket=socket, service=service, target=target)
    if as_json:
        output.print_json({"outcome": "removed", "service": service, "target": target})
    else:
        output.say(f"removed {service} {target}")


def names_under(service: str, prefix: str, socket: str | None) -> list[str]:
    """The targets of ``service`` that begin with ``prefix``, sorted. Raises NotFound if there are none."""
    rows = admin.ask("list", socket=socket, service=service, prefix=prefix)
    if not rows:
        raise NotFound(
            f"{service} has nothing that begins with {prefix}", hint=f"keychain-auth list-secrets {quoted(service)}"
        )
    return sorted(row["target"] for row in rows)


def _remove_all(service: str, names: list[str], yes: bool, socket: str | None, as_json: bool) -> None:
    """All of ``names`` in one transaction, once a person said so."""
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError(f"{len(names)} secrets would be removed, and nobody can be asked", hint="add --yes")
        output.say(*(f"  {service} {name}" for name in names))
        if not click.confirm(f"Remove these {len(names)}?", err=True):
            raise KeychainAuthError("nothing was removed")
    admin.ask("rm-many", socket=socket, wanted={service: names})
    if as_json:
        output.print_json({"outcome": "removed", "service": service, "targets": names})
    else:
        output.say(f"removed {len(names)} secrets of {service}")


def _prompted(service: str, target: str) -> str:
    with warnings.catch_warnings():
        # getpass only warns when it cannot turn the echo off, and then reads the secret in the open.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            first = getpass.getpass(f"Value of {printable(f'{service} {target}')}: ", stream=sys.stderr)
            second = getpass.getpass("The same again: ", stream=sys.stderr)
        except getpass.GetPassWarning:
            raise UsageError("this terminal would show the value", hint="give it on stdin instead") from None
        except EOFError:
            raise UsageError("no value was given; nothing was stored") from None
    if first != second:
        again = f"keychain-auth set {quoted(service)} {quoted(target)}"
        raise UsageError("the two values are not the same; nothing was stored", hint=again)
    return _text(first.encode("utf-8", "surrogateescape"))


def value_from_stdin(*, exactly: bool = False) -> str:
    """All of stdin; unless ``exactly``, without one newline at its end. Raises UsageError."""
    if stdin_is_nothing():
        raise UsageError("stdin is closed or /dev/null: there is no value to read", hint="give the value on stdin")
    content = sys.stdin.buffer.read(_LONGEST_INPUT + 1)
    if len(content) > _LONGEST_INPUT:
        raise UsageError(f"the value is longer than {_LONGEST_INPUT} bytes")
    return _text(content if exactly else content.removesuffix(b"\n"))


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:  # its text would show some of the value: raised below, outside of the handler
        pass
    raise UsageError("the value is not UTF-8 text", hint="encode it first: base64 < FILE | keychain-auth set …")
