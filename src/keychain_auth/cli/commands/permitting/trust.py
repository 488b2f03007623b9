"""Whose signature counts: ``trust``, ``distrust``. A running daemon obeys at its next request."""

from __future__ import annotations

import click

from keychain_auth.cli.shared import config_file, output
from keychain_auth.cli.shared.keys import public_key_of
from keychain_auth.cli.shared.options import checked_service, json_option, passphrase_option
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import NotFound
from keychain_auth.identity.signature import key_text
from keychain_auth.policy import edit


@click.command()
@click.argument("service")
@click.argument("key")
@passphrase_option
@json_option
def trust(service: str, key: str, as_json: bool) -> None:
    """Let every program that KEY signed read, write and search SERVICE.

    KEY is a public key: base64, or a file in PEM or DER. Nobody is asked when such a program comes, whatever its path
    and version. Give a publisher a service of his own.
    """
    checked_service(service)
    text = key_text(public_key_of(key))
    outcome = config_file.change(find_places(), lambda document: edit.trust(document, service, text))
    if as_json:
        output.print_json({"outcome": outcome, "service": service, "public_key": text})
    else:
        output.say(f"{outcome}: what {text} signed may use {service}")


@click.command()
@click.argument("signer", metavar="SERVICE|KEY")
@passphrase_option
@json_option
def distrust(signer: str, as_json: bool) -> None:
    """Take a signer's trust away: all of a KEY, or every signer of a SERVICE.

    What was granted by the signature alone is gone; a connection that is open is refused at its next request. Entries
    that a person registered keep what they have for the hash that they name. Exit code 6 if there is no such signer.
    """

    def take(document: edit.Document) -> tuple[edit.Document, list[edit.Document]]:
        changed, taken = edit.distrust(document, service=signer)
        if not taken:
            changed, taken = edit.distrust(document, key=public_key_of(signer))
        if not taken:
            raise NotFound(f"{signer} is not in trusted_signers", hint="keychain-auth list")
        return changed, taken

    taken = config_file.change(find_places(), take)
    if as_json:
        output.print_json({"outcome": "distrusted", "signers": taken})
    for one in taken if not as_json else ():
        output.say(f"no longer trusted for {one['service']}: {one['public_key']}")
