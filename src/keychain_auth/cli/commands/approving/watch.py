"""``keychain-auth watch`` as a command. The screen is loaded when it is opened: it needs Textual."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click
import msgspec

from keychain_auth.cli.commands.approving.answering import who_waits
from keychain_auth.cli.commands.approving.asking import Asked
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, socket_option
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import KeychainAuthError, UsageError


@click.command()
@socket_option
@json_option
def watch(socket: str | None, as_json: bool) -> None:
    """See on one screen which programs ask right now and wait for you, and answer them by a key.

    Each fact is marked: verified (the kernel, a hash or a signature says so), asked (the words of the request), claimed
    (by somebody who could lie). Keys: o once, t ten minutes, s this service, g for good, n never, d not now. It works
    from any terminal, over SSH too. Without Textual: keychain-auth approve --interactive. With --json the list as it
    is now.
    """
    places = find_places(socket)
    _, waiting = who_waits(places, -1)  # says it in a line if no daemon runs
    if as_json:
        output.print_json([_plain(one) for one in waiting])
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("watch needs a terminal", hint="keychain-auth approve --interactive, or watch --json")
    try:
        screen = importlib.import_module("keychain_auth.cli.commands.approving.screen")
    except ImportError:
        raise KeychainAuthError(
            "watch needs Textual: install keychain-auth with its extra tui, as the README says",
            hint="keychain-auth approve --interactive",
        ) from None
    screen.Watch(places).run()


def _plain(asked: Asked) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(asked)
    entry = plain.pop("entry")
    return {"program": entry.pop("path"), **entry, **plain}
