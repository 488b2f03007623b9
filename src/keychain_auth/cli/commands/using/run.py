"""``keychain-auth run`` as a command with help. ``main`` calls ``client.run`` itself, without click."""

from __future__ import annotations

import click

from keychain_auth.cli.shared.options import passphrase_option, socket_option
from keychain_auth.client import passphrase
from keychain_auth.client.run import Order, parse_descriptor, parse_wait, run
from keychain_auth.errors import UsageError


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--env-file", "env_files", metavar="FILE", multiple=True, help="Take variables from this dotenv file.")
@click.option("--only", metavar="NAME,…", multiple=True, help="Resolve these variables and no others.")
@click.option(
    "--fd", "descriptors", metavar="NAME:NUMBER", multiple=True,
    help="Hand the value of the variable NAME over on the open descriptor NUMBER, not as a variable. NAME may also be "
    "a reference.",
)  # fmt: skip
@click.option("--mask", is_flag=True, help="Take the values out of what it prints. Then it is a child of this process.")
@click.option(
    "--wait", metavar="TIME", default="",
    help="If COMMAND asks the daemon as a program that nobody registered yet, its requests wait so long for a person "
    "(60s, 5m).",
)  # fmt: skip
@click.option("--reason", metavar="TEXT", default="", help="Goes into the audit log.")
@passphrase_option
@socket_option
def run_command(
    command: tuple[str, ...],
    env_files: tuple[str, ...],
    only: tuple[str, ...],
    descriptors: tuple[str, ...],
    mask: bool,
    wait: str,
    reason: str,
    socket: str | None,
) -> None:
    """Start COMMAND with secrets in its environment.

    Every variable whose value is keychain://SERVICE/TARGET gets that secret as its value. If one of them does not
    exist, nothing is started, and all that are missing are listed. The command replaces this process: terminal, signals
    and the exit code are its own.
    """
    if passphrase.stands_in_a_stream():
        raise UsageError(
            "nothing was started: the command would get the file with the passphrase as one of its streams",
            hint="keychain-auth run --passphrase-fd 3 … 3<FILE",
        )
    order = Order()
    order.command = list(command)
    order.env_files = list(env_files)
    order.only = [name for names in only for name in names.split(",") if name]
    order.descriptors = [parse_descriptor(word) for word in descriptors]
    order.mask, order.reason, order.socket = mask, reason, socket
    order.wait = parse_wait(wait)
    run(order)
