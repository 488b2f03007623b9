"""Answers on stdout: one JSON document for programs, lines and tables for people.

Contract: JSON is ASCII (everything else is escaped), so that no terminal and no encoding can harm it. Lines for people
go through ``printable``. Tables are drawn by rich on a terminal, and are columns of plain text anywhere else. Where a
terminal is too narrow for a table, its rows stand one below the other, so that a path or an id stays in one piece; or,
where they are events, each is a line.
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
_ENDLESS = 1_000_000
_NOTHING = ("", "-")


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


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, events: bool = False) -> None:
    """Rows under headers. ``events``: where a row does not fit, it is one line, and not a block of its own."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headers, cells, events=events)
        return
    widths = [min(max(map(len, column)), _WIDEST_COLUMN) for column in zip(headers, *cells, strict=True)]
    for row in ([header.upper() for header in headers], *cells):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def words(names: object) -> str:
    """A list of names for a table."""
    return ", ".join(names) if isinstance(names, list) and names else "-"


def in_a_line(row: Sequence[object]) -> str:
    """What is there of a row."""
    return "  ".join(text for cell in row if (text := str(cell)) not in _NOTHING)


def _draw(headers: Sequence[str], cells: Sequence[Sequence[str]], *, events: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - 50 ms that only a terminal is worth
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        drawn.add_column(header, overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))  # Text, not str: what a client chose is no markup
    # (Measured for a terminal of its own width, no table is wider than that.)
    if console.measure(drawn, options=console.options.update(max_width=_ENDLESS)).maximum <= console.width:
        console.print(drawn)
    elif events:
        say(*map(in_a_line, cells))
    else:
        _stack(headers, cells)


def _stack(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Each row as a block, without what is not there."""
    width = max(map(len, headers))
    for number, row in enumerate(cells):
        if number:
            click.echo()
        for header, cell in zip(headers, row, strict=True):
            if cell not in _NOTHING:
                click.echo(f"{click.style(header.ljust(width), bold=True)}  {cell}")
