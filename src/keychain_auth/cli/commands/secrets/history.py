"""Earlier values of a secret: ``history`` shows when and by whom, ``restore-value`` brings one back.

Contract: no command here shows a value. What is restored is written as any new value is: what it replaces becomes an
earlier one in its turn, so a restoration can itself be undone.
"""

from __future__ import annotations

from typing import Any

import click

from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.client import admin
from keychain_auth.moments import stamp_of


@click.command("history")
@click.argument("service")
@click.argument("target")
@click.option("--forget", is_flag=True, help="Remove the earlier values for good; the present one stays.")
@socket_option
@passphrase_option
@json_option
def history(service: str, target: str, forget: bool, socket: str | None, as_json: bool) -> None:
    """Show when a secret got its present and its earlier values, and from which program.

    Number 0 is the present value, 1 the one before. A deleted secret has no number 0. How many are kept is set in
    daemon.toml, [history] values; 0 keeps none.
    """
    if forget:
        admin.ask("forget", socket=socket, service=service, target=target)
        if as_json:
            output.print_json({"outcome": "forgotten", "service": service, "target": target})
        else:
            output.say(f"forgot the earlier values of {service} {target}")
        return
    versions: list[dict[str, Any]] = admin.ask("history", socket=socket, service=service, target=target)
    for version in versions:
        version["modified"] = stamp_of(version["modified"])
    if as_json:
        output.print_json(versions)
    else:
        output.table(
            ("number", "written", "by", "attributes"),
            [
                (
                    version["number"] or "0 (present)",
                    version["modified"],
                    version["program"] or "unknown",
                    ", ".join(f"{name}={text}" for name, text in (version["attributes"] or {}).items()),
                )
                for version in versions
            ],
        )


@click.command("restore-value")
@click.argument("service")
@click.argument("target")
@click.argument("number", type=click.IntRange(min=1), default=1)
@socket_option
@passphrase_option
@json_option
def restore_value(service: str, target: str, number: int, socket: str | None, as_json: bool) -> None:
    """Make an earlier value of a secret the present one, with its attributes.

    NUMBER is as history shows it (1, the last one before, if left out). A deleted secret comes back.
    """
    answer: dict[str, bool] = admin.ask("restore-value", socket=socket, service=service, target=target, number=number)
    if as_json:
        output.print_json({"outcome": "restored", "service": service, "target": target, "number": number})
    else:
        before = "what it was before is now number 1 of its history" if answer["replaced"] else "it was deleted"
        output.say(f"restored {service} {target}: {before}")
