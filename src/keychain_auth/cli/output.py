"""Answers on stdout: one JSON document for programs, lines and tables for people.

Contract: JSON is ASCII (everything else is escaped), so that no terminal and no encoding can harm it. Lines for people
go through ``printable``. Tables are drawn by rich on a terminal, and are columns of plain text anywhere else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import click

from keychain_auth import files
from keychain_auth.cli.report import printable
from keychain_auth.errors import KeychainAuthError, quoted

_WIDEST_COLUMN = 120


def print_json(document: object) -> None:
    """``document`` as one JSON document."""
    click.echo(json.dumps(document, indent=2))


def say(*lines: object) -> None:
    """Each of ``lines`` as a line."""
    for line in lines:
        click.echo(printable(line))


def deliver(text: str, file: str, *, else_told: str = "") -> bool:
    """Write ``text`` as the private ``file``, whole; or to stdout if that is "-". True if there is a file now.

    Raises KeychainAuthError, with ``else_told`` at its end.
    """
    if file == "-":
        click.echo(text, nl=False)
        return False
    try:
        files.replace(os.path.abspath(file), text.encode())
    except OSError as error:
        raise KeychainAuthError(
            f"cannot write {file}: {error.strerror}{else_told}", hint=f"ls -ld {quoted(file)}"
        ) from None
    return True


def shout(line: object) -> None:
    """A line that must not be overlooked."""
    click.secho(printable(line), bold=True, fg="red")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under headers."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headers, cells)
        return
    widths = [min(max(map(len, column)), _WIDEST_COLUMN) for column in zip(headers, *cells, strict=True)]
    for row in ([header.upper() for header in headers], *cells):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _draw(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - 50 ms that only a terminal is worth
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        drawn.add_column(header, overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))  # Text, not str: what a client chose is no markup
    Console().print(drawn)
