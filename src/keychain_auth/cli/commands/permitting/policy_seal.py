"""``keychain-auth policy seal``: a person looks at what changed in config.json and daemon.toml, and accepts it."""

from __future__ import annotations

import json
from typing import NamedTuple

import click

from keychain_auth import files
from keychain_auth.cli.shared import config_file, output
from keychain_auth.cli.shared.options import json_option, passphrase_option
from keychain_auth.client import admin, passphrase
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.daemon.settings import Settings, parse_settings, read_settings
from keychain_auth.daemon.settings import difference_lines as settings_difference
from keychain_auth.errors import KeychainAuthError, PolicyFormatError, UsageError, quoted
from keychain_auth.policy.difference import difference_lines
from keychain_auth.policy.edit import empty_document
from keychain_auth.policy.parse import parse_policy


class _Change(NamedTuple):
    """What the file ``path`` says, in ``text``. ``lines``: how it differs from what was accepted; ``command`` accepts
    it."""

    path: str
    text: str
    lines: list[str]
    command: str


@click.group("policy", no_args_is_help=False)
def policy_group() -> None:
    """The policy as a whole."""


@policy_group.command("seal")
@passphrase_option
@json_option
def seal(as_json: bool) -> None:
    """Show what was changed in config.json and daemon.toml since they were accepted, and accept it with the passphrase.

    Ctrl-C leaves everything as it is. What is accepted is exactly what was shown, whatever becomes of the files.
    Accepted settings count after the next start: keychain-auth restart.
    """
    places = find_places()
    accepted = config_file.accepted_text(places)
    if accepted is None:
        raise UsageError(
            "the policy is sealed only while a passphrase is set, by a running daemon",
            hint="keychain-auth protect add passphrase",
        )
    changes = [change for change in (_policy(places, accepted), _settings(places)) if change.lines]
    if not changes:
        nothing = f"nothing to accept: {places.policy} and {places.settings} say what was accepted"
        _tell("unchanged", [], as_json, [nothing])
        return
    if not as_json:
        output.say(*(line for change in changes for line in change.lines))
    passphrase.present("Passphrase, to accept these changes: ")
    for change in changes:
        admin.ask(change.command, socket=places.agent_socket, value=change.text)
    sentences = [f"sealed {change.path}" for change in changes]
    if changes[-1].command == "settings-seal":
        sentences.append("Settings count after the next start. Next: keychain-auth restart")
    _tell("sealed", changes, as_json, sentences)


def _policy(places: Places, accepted: str) -> _Change:
    try:
        text = files.read_private(places.policy).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        text = json.dumps(empty_document(), indent=2) + "\n"
    try:
        parse_policy(text.encode("utf-8", "surrogateescape"))
    except PolicyFormatError as error:
        raise KeychainAuthError(f"{places.policy}: {error}", hint=f"edit {quoted(places.policy)}") from None
    return _Change(places.policy, text, difference_lines(accepted, text), "policy-seal")


def _settings(places: Places) -> _Change:
    text, said = read_settings(places.settings)
    accepted: str | None = admin.ask("settings-accepted", socket=places.agent_socket)["text"]
    try:
        before = Settings() if accepted is None else parse_settings(accepted.encode())
    except ValueError as error:  # a newer version accepted it
        lines = [f"what was accepted cannot be read by this version ({error}); against the defaults:"]
        before = Settings()
    else:
        lines = ["nobody has accepted these settings yet; against the defaults:"] if accepted is None else []
    difference = settings_difference(before, said)
    if lines and not difference:
        difference = ["(they are the defaults)"]
    heading = ["--- accepted", "+++ daemon.toml"] if lines or difference else []
    return _Change(places.settings, text, [*heading, *lines, *difference], "settings-seal")


def _tell(outcome: str, changes: list[_Change], as_json: bool, sentences: list[str]) -> None:
    if as_json:
        lines = [line for change in changes for line in change.lines]
        output.print_json({"outcome": outcome, "difference": lines})
    else:
        output.say(*sentences)
