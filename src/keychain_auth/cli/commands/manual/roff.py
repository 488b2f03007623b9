"""Manual pages (man(7)), one for the program and one for each of its commands, with those below it. Pure."""

from __future__ import annotations

import re

from keychain_auth import __version__
from keychain_auth.cli.commands.manual.tree import Command, Option

FILES = (
    ("~/.config/keychain-auth/config.json", "the policy: which program may have what"),
    ("~/.config/keychain-auth/daemon.toml", "settings"),
    ("~/.local/share/keychain-auth/vault.db", "the secrets, encrypted"),
    ("~/.local/share/keychain-auth/audit.log", "the record"),
    ("$XDG_RUNTIME_DIR/keychain-auth/agent.sock", "where programs connect"),
)
_WIDE_DASH = re.compile("[\u2010-\u2015]")


def pages(program: Command, mark: str = "") -> dict[str, str]:
    """The text of each page, by its file name. ``mark`` is a comment in the first lines."""
    found = {"keychain-auth.1": _program(program, mark)}
    for command in program.below:
        found[f"keychain-auth-{command.words[0]}.1"] = _command(program, command, mark)
    return found


def _program(program: Command, mark: str) -> str:
    lines = [*_head("keychain-auth", program.paragraphs[0].rstrip("."), mark), *_synopsis(program), ".SH DESCRIPTION"]
    lines += _text(program.paragraphs)
    lines += [".SH OPTIONS", *_options(program.options), ".SH COMMANDS"]
    for command in program.below:
        lines += [".TP", f".BR keychain-auth-{escape(command.words[0])} (1)", escape(command.summary)]
    lines.append(".SH FILES")
    for path, what in FILES:
        lines += [".TP", f".I {escape(path)}", escape(what)]
    return "\n".join(lines) + "\n"


def _command(program: Command, command: Command, mark: str) -> str:
    name = f"keychain-auth-{command.words[0]}"
    lines = _head(name, command.summary, mark)
    for each in command.all():
        lines += _synopsis(each)[0 if each is command else 1 :]
    lines.append(".SH DESCRIPTION")
    lines += _text(command.paragraphs)
    lines += [".SH OPTIONS", *_options(command.options)]
    for each in list(command.all())[1:]:
        lines += [f".SH {escape(' '.join(each.words)).upper()}", *_text(each.paragraphs), *_options(each.options)]
    lines += [".SH EXIT STATUS", *_text(program.paragraphs[-1:]), ".SH SEE ALSO", ".BR keychain-auth (1)"]
    return "\n".join(lines) + "\n"


def _head(name: str, summary: str, mark: str) -> list[str]:
    comment = [f'.\\" {mark}'] if mark else []
    title = f'.TH {escape(name).upper()} 1 "" "keychain\\-auth {escape(__version__)}" "User Commands"'
    return [*comment, title, ".SH NAME", f"{escape(name)} \\- {escape(summary)}"]


def _synopsis(command: Command) -> list[str]:
    _, _, pieces = command.usage.partition(command.name)
    return [".SH SYNOPSIS", f".B {escape(command.name)}", escape(pieces.strip()), ".br"]


def _text(paragraphs: tuple[str, ...]) -> list[str]:
    lines = []
    for paragraph in paragraphs:
        lines.append(".PP")
        if "\n" in paragraph:
            lines += [".nf", *(escape(line) for line in paragraph.split("\n")), ".fi"]
        else:
            lines.append(escape(paragraph))
    return lines


def _options(options: tuple[Option, ...]) -> list[str]:
    lines = []
    for option in options:
        names = ", ".join(f"\\fB{escape(name)}\\fR" for name in option.names)
        lines += [".TP", names + (f" \\fI{escape(option.metavar)}\\fR" if option.metavar else ""), escape(option.text)]
    return lines


def escape(text: str) -> str:
    """``text`` as it shall be read: a dash stays one that can be copied, and no line becomes a request (groff(7))."""
    escaped = _WIDE_DASH.sub("-", text).replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
