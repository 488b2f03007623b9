"""Commands of a page that its reader does not type, and the test that runs each of them instead.

A reason is worth what it names. So it names one test, as pytest does, and is refused unless

* the file is there and has a function of that name;
* the file says every word that makes the command what it is: its sub-commands and options, or another program's name
  and options. A test that stops using an option, or is renamed, takes the reason with it.

What this does not promise: that the test uses them together.
"""

from __future__ import annotations

import ast
import functools
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import click

from docs.test_docs import ROOT, invocations
from keychain_auth.cli.app import commands


class Elsewhere(NamedTuple):
    """``command``: the pattern of a whole line. ``test``: ``FILE::FUNCTION``, or a file that is run as it is.

    ``why``: what the reader lacks.
    """

    command: str
    test: str
    why: str

    def matches(self, line: str) -> bool:
        """Is it about this line?"""
        return re.fullmatch(self.command, line) is not None

    def problem(self, line: str) -> str:
        """What is wrong with the reason for not typing ``line``; empty if it holds."""
        file, _, function = self.test.partition("::")
        if not os.path.isfile(os.path.join(ROOT, file)):
            return f"there is no {file}"
        if function and function not in _functions(file):
            return f"{file} has no {function}"
        missing = [word for word in words_of(line) if word not in _said(file)]
        return f"{file} does not say {', '.join(missing)}" if missing else ""


def words_of(line: str) -> list[str]:
    """What makes a command what it is."""
    line = re.sub(r"\$\([^)]*\)", "", line.removeprefix("sudo "))
    # How root says which daemon is meant is said once for all tests, in support/system.py.
    plain = re.sub(r"\S+/keychain-auth --system ", "keychain-auth ", line)
    found = [word for words in invocations(plain) for word in _chosen(words)]
    if found:
        return found
    program, *rest = line.split()
    if rest[:1] == ["-m"]:
        program, *rest = rest[1:]  # a module of Python
    chosen = r"[a-z][\w-]*" if program == "make" else r"--?[a-z][\w-]*"  # of make also the targets
    return [os.path.basename(program), *(word for word in rest if re.fullmatch(chosen, word))]


def _chosen(words: tuple[str, ...]) -> Iterator[str]:
    """Sub-commands and options."""
    command: click.Command = commands
    for word in words:
        if word == "--":
            return
        if word.startswith("-") and word != "-":
            yield word.partition("=")[0]
        elif isinstance(command, click.Group) and word in command.list_commands(click.Context(command)):
            yield word
            command = command.get_command(click.Context(command), word) or command


@functools.cache
def _text(file: str) -> str:
    with open(os.path.join(ROOT, file), encoding="utf-8") as opened:
        return opened.read()


@functools.cache
def _functions(file: str) -> frozenset[str]:
    return frozenset(node.name for node in ast.walk(ast.parse(_text(file))) if isinstance(node, ast.FunctionDef))


@functools.cache
def _said(file: str) -> frozenset[str]:
    """The words of all its texts; of a file that is no Python, all its words."""
    if not file.endswith(".py"):
        return frozenset(_text(file).split())
    texts = (node.value for node in ast.walk(ast.parse(_text(file))) if isinstance(node, ast.Constant))
    said = {word for text in texts if isinstance(text, str) for word in re.split(r"[\s'\"=]+", text)}
    return frozenset(said | {os.path.basename(word) for word in said})
