"""The commands as plain values, read from click: the one source of ``--help``, the manual pages and the completions.

Contract: whatever click would show in ``--help`` is here, word for word, and nothing else. Hidden commands and options
are left out, as click leaves them out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import NamedTuple

import click

from keychain_auth.cli.app import NAME, commands

HELP = ("-h", "--help")


class Option(NamedTuple):
    """``names`` as they are typed; ``metavar`` is "" for a flag; ``choices`` are all values that it takes, if few."""

    names: tuple[str, ...]
    metavar: str
    text: str
    choices: tuple[str, ...] = ()
    takes_file: bool = False


class Argument(NamedTuple):
    """``metavar`` as the usage line has it; ``choices`` are all values that it takes, if few."""

    metavar: str
    choices: tuple[str, ...] = ()


class Command(NamedTuple):
    """``words`` lead to it, without the program's name. ``paragraphs`` are its help, the first the summary."""

    words: tuple[str, ...]
    summary: str
    paragraphs: tuple[str, ...]
    usage: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    below: tuple[Command, ...]

    @property
    def name(self) -> str:
        """As it is typed, the program's name included."""
        return " ".join((NAME, *self.words))

    def all(self) -> Iterator[Command]:
        """It, and everything below it."""
        yield self
        for command in self.below:
            yield from command.all()


def read() -> Command:
    """All of it."""
    return _read(commands, (), None)


def _read(command: click.Command, words: tuple[str, ...], above: click.Context | None) -> Command:
    context = click.Context(command, info_name=words[-1] if words else NAME, parent=above,
                            help_option_names=list(HELP))  # fmt: skip
    below = []
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                below.append(_read(found, (*words, name), context))
    parameters = command.get_params(context)
    return Command(
        words,
        command.get_short_help_str(limit=200).rstrip("."),
        _paragraphs(command.help or ""),
        " ".join((context.command_path, *command.collect_usage_pieces(context))),
        tuple(_option(each, context) for each in parameters if isinstance(each, click.Option) and not each.hidden),
        tuple(_argument(each, context) for each in parameters if isinstance(each, click.Argument)),
        tuple(below),
    )


def _paragraphs(text: str) -> tuple[str, ...]:
    """Each without its line breaks; one that begins with \\b (click's "as it stands") keeps them."""
    found = []
    for paragraph in inspect.cleandoc(text).partition("\f")[0].split("\n\n"):
        lines = paragraph.strip("\n").split("\n")
        found.append("\n".join(lines[1:]) if lines[0].strip() == "\b" else " ".join(line.strip() for line in lines))
    return tuple(filter(None, found))


def _option(option: click.Option, context: click.Context) -> Option:
    record = option.get_help_record(context)
    metavar = "" if option.is_flag or option.count else option.make_metavar(context)
    text = record[1] if record is not None else ""
    file = isinstance(option.type, click.Path | click.File) or metavar in ("FILE", "PATH", "FOLDER")
    return Option((*option.opts, *option.secondary_opts), metavar, text, _choices(option), file)


def _argument(argument: click.Argument, context: click.Context) -> Argument:
    return Argument(argument.make_metavar(context), _choices(argument))


def _choices(parameter: click.Parameter) -> tuple[str, ...]:
    kind = parameter.type
    return tuple(str(choice) for choice in kind.choices) if isinstance(kind, click.Choice) else ()
