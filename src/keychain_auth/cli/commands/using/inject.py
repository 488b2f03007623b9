"""``keychain-auth inject``: a file with secrets in it, made from a template without them.

Contract: all references are resolved or nothing is written; the new file is private (0600) and takes the old one's
place in one step. ``{{ … }}`` that holds no reference stays as it is, for whoever else reads the template. A value is
never looked into: what it holds stands in the file as it is, so the template's author knows how to quote it.
"""

from __future__ import annotations

import os
import re
import stat
import sys

import click

from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.client import references
from keychain_auth.client.dotenv import LARGEST
from keychain_auth.client.textfile import read_text
from keychain_auth.errors import UsageError, quoted

_PLACE = re.compile(r"\{\{[ \t]*(" + re.escape(references.SCHEME) + r"[^\s{}]*)[ \t]*\}\}")


@click.command()
@click.option("-i", "--in", "template", metavar="FILE", required=True, help="The template; - for stdin.")
@click.option("-o", "--out", "target", metavar="FILE", required=True, help="The file to write; - for stdout.")
@click.option("--reason", metavar="TEXT", default="", help="Goes into the audit log.")
@passphrase_option
@socket_option
@json_option
def inject(template: str, target: str, reason: str, socket: str | None, as_json: bool) -> None:
    """Fill the places {{ keychain://SERVICE/TARGET }} of a template, and write the result with mode 0600.

    If one of the secrets does not exist, nothing is written, and all that are missing are listed.
    """
    _require_place(target)
    text = read_text(template, LARGEST, stdin=True)
    found = dict.fromkeys(_PLACE.findall(text))
    if not found:
        raise UsageError(
            f"nothing was written: {template} holds no {{{{ {references.SCHEME}SERVICE/TARGET }}}}",
            hint="keychain-auth inject --help",
        )
    values = references.fetch(
        _parsed(found), socket=socket, reason=f"inject {target}: {reason}" if reason else f"inject {target}",
        undone="nothing was written",
    )  # fmt: skip
    filled = _PLACE.sub(lambda place: values[place[1]], text)
    if not output.deliver(filled, target, else_told="; the old file is untouched"):
        return
    if as_json:
        output.print_json({"outcome": "written", "file": target, "secrets": len(values)})
    else:
        output.say(f"wrote {target}, with {len(values)} secret{'' if len(values) == 1 else 's'} in the clear")


def _parsed(found: dict[str, None]) -> dict[str, references.Reference]:
    parsed, problems = {}, []
    for text in found:
        try:
            parsed[text] = references.parse(text)
        except UsageError as problem:
            problems.append(str(problem))
    if problems:
        raise UsageError(f"nothing was written: {'; '.join(problems)}")
    return parsed


def _require_place(target: str) -> None:
    if target == "-":
        if sys.stdout.isatty():
            raise UsageError("a terminal would show the secrets", hint="write into a file, or through a pipe")
        return
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"{target} is there, and is no regular file; nothing was written", hint=f"ls -ld {quoted(target)}"
        )
