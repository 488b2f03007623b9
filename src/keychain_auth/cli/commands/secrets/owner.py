"""``keychain-auth --system owner``: whose secrets lie under which user id, when an account was renamed or replaced."""

from __future__ import annotations

from typing import Any

import click

from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.client import admin

_SLOW = 120.0  # seconds: many secrets are removed one by one

uid_argument = click.argument("uid", metavar="UID", type=click.IntRange(min=0))


@click.group()
def owner() -> None:
    """In system mode: whose secrets lie under which user id.

    A user id may be given to another account once the first one is removed. The daemon remembers the account's name,
    and refuses another one (user_not_allowed) until root says what is right.
    """


@owner.command("list")
@socket_option
@passphrase_option
@json_option
def list_owners(socket: str | None, as_json: bool) -> None:
    """Show each user id that stores something, the account that it was, and the one that it is now."""
    found: list[dict[str, Any]] = admin.ask("owners", socket=socket)
    if as_json:
        output.print_json(found)
    elif not found:
        output.say("No user has stored anything.")
    else:
        rows = [(each["uid"], each["account"], each["now"], ", ".join(each["services"]) or "-") for each in found]
        output.table(("uid", "account", "is now", "services"), rows)
        if others := [each["uid"] for each in found if each["now"] != each["account"]]:
            output.say(
                f"Next, if it is the same person: keychain-auth --system owner keep {others[0]}",
                f"If it is another one: keychain-auth --system owner forget {others[0]}",
            )


@owner.command("keep")
@uid_argument
@socket_option
@passphrase_option
@json_option
def keep(uid: int, socket: str | None, as_json: bool) -> None:
    """The account of UID was renamed: what was stored stays its own."""
    done: dict[str, Any] = admin.ask("owner-keep", socket=socket, number=uid)
    if as_json:
        output.print_json({"outcome": "kept", **done})
    else:
        output.say(f"uid {uid} is {done['account']} (before: {done['before']}), with all that was stored")


@owner.command("forget")
@uid_argument
@socket_option
@passphrase_option
@json_option
def forget(uid: int, socket: str | None, as_json: bool) -> None:
    """The account of UID is gone: remove what it stored, earlier values too, for good."""
    done: dict[str, Any] = admin.ask("owner-forget", socket=socket, timeout=_SLOW, number=uid)
    if as_json:
        output.print_json({"outcome": "forgotten", **done})
    else:
        output.say(f"removed what {done['account']} (uid {uid}) had stored: {done['removed']} secrets")
