"""``keychain-auth launch`` as a command with help. ``main`` calls ``client.launch`` itself, without click."""

from __future__ import annotations

import click

from keychain_auth.cli.shared.options import socket_option
from keychain_auth.client.launch import launch


@click.command("launch", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@socket_option
def launch_script(script: str, arguments: tuple[str, ...], socket: str | None) -> None:
    """Start the registered SCRIPT so that the daemon knows it for sure (grade launched).

    The daemon looks at it before its first instruction. Variables that change what an interpreter runs (LD_PRELOAD,
    PYTHONPATH, NODE_OPTIONS, …) and open files other than the standard streams are left behind. Terminal, signals and
    the exit code are the script's own. Exit code 3: the daemon refused, and said why.
    """
    if script.startswith("-"):  # what follows the script is its own, so click lets every option through
        raise click.UsageError(f"No such option '{script}'.")
    launch(script, arguments, socket)
