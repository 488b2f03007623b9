"""``completion`` and ``manual``: the commands' own words, for shells and for man(1)."""

from __future__ import annotations

import click

from keychain_auth.cli.commands.manual import roff, shells, tree
from keychain_auth.errors import NotFound


@click.command()
@click.argument("shell", type=click.Choice(shells.SHELLS, case_sensitive=False))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    keychain-auth install puts those of bash, zsh and fish where they are looked for. For PowerShell:
    keychain-auth completion powershell | Out-String | Invoke-Expression
    """
    click.echo(shells.script(shell, tree.read()), nl=False)


@click.command()
@click.argument("command", required=False)
def manual(command: str | None) -> None:
    """Print the manual page of COMMAND, or of the program, for man.

    keychain-auth manual register | man -l -
    """
    page = f"keychain-auth-{command}.1" if command else "keychain-auth.1"
    text = roff.pages(tree.read()).get(page)
    if text is None:
        raise NotFound(f"there is no command {command}", hint="keychain-auth --help")
    click.echo(text, nl=False)
