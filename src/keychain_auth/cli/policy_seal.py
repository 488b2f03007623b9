"""``keychain-auth policy seal``: a person looks at what changed in config.json, and accepts it."""

from __future__ import annotations

import json

import click

from keychain_auth import files
from keychain_auth.cli import config_file, output
from keychain_auth.cli.options import json_option, passphrase_option
from keychain_auth.client import admin, passphrase
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import KeychainAuthError, PolicyFormatError, UsageError
from keychain_auth.policy.difference import difference_lines
from keychain_auth.policy.edit import empty_document
from keychain_auth.policy.parse import parse_policy


@click.group("policy")
def policy_group() -> None:
    """The policy as a whole."""


@policy_group.command("seal")
@passphrase_option
@json_option
def seal(as_json: bool) -> None:
    """Show what was changed in config.json since it was accepted, and accept it with the passphrase.

    Ctrl-C leaves everything as it is. What is accepted is exactly what was shown, whatever becomes of the file.
    """
    places = find_places()
    accepted = config_file.accepted_text(places)
    if accepted is None:
        raise UsageError(
            "the policy is sealed only while a passphrase is set, by a running daemon",
            hint="keychain-auth protect add passphrase",
        )
    try:
        text = files.read_private(places.policy).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        text = json.dumps(empty_document(), indent=2) + "\n"
    try:
        parse_policy(text.encode("utf-8", "surrogateescape"))
    except PolicyFormatError as error:
        raise KeychainAuthError(f"{places.policy}: {error}", hint=f"edit {places.policy}") from None
    lines = difference_lines(accepted, text)
    if not lines:
        _tell("unchanged", [], as_json, f"nothing to accept: {places.policy} says what is obeyed")
        return
    if not as_json:
        output.say(*lines)
    passphrase.present("Passphrase, to accept these changes: ")
    admin.ask("policy-seal", socket=places.agent_socket, value=text)
    _tell("sealed", lines, as_json, f"sealed {places.policy}")


def _tell(outcome: str, lines: list[str], as_json: bool, sentence: str) -> None:
    if as_json:
        output.print_json({"outcome": outcome, "difference": lines})
    else:
        output.say(sentence)
