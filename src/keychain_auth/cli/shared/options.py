"""Options that many commands share, so that they look the same everywhere, and the checks of what people type."""

from __future__ import annotations

import unicodedata

import click

from keychain_auth.client import passphrase
from keychain_auth.errors import UsageError
from keychain_auth.limits import LONGEST_SERVICE, LONGEST_TARGET

socket_option = click.option(
    "-s",
    "--socket",
    metavar="PATH",
    help="The daemon's socket. Otherwise $KEYCHAIN_AUTH_SOCKET, then the default of this user.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")


def _use_passphrase_descriptor(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    passphrase.use_descriptor(value)


passphrase_option = click.option(
    "--passphrase-fd",
    metavar="FD",
    type=int,
    expose_value=False,
    callback=_use_passphrase_descriptor,
    help="Read the passphrase from the first line of this open descriptor, not from the terminal.",
)


def checked_service(name: str) -> str:
    """``name`` if a service can be called that (protocol, "Requests"). Raises UsageError."""
    return _checked("service", name, LONGEST_SERVICE)


def checked_prefix(name: str) -> str:
    """``name`` if targets can begin with it. Raises UsageError."""
    return _checked("target prefix", name, LONGEST_TARGET)


def checked_target(name: str) -> str:
    """``name`` if a target can be called that. Raises UsageError."""
    return _checked("target", name, LONGEST_TARGET)


def _checked(what: str, name: str, longest: int) -> str:
    if not 1 <= len(name) <= longest:
        raise UsageError(f"a {what} has 1 to {longest} characters, this one {len(name)}")
    # Cs is what Python makes of bytes that are not UTF-8: no client could ever send such a name.
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        raise UsageError(f"a {what} is text in UTF-8 without control characters: {name!a}")
    return name
