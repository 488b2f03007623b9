"""Runs the console blocks of a document as a reader would: one home and one shell for each page, from top to bottom.

What a line shows, and how it is checked:

* ``$ COMMAND`` must end with exit code 0, or with the N of ``# exit code N`` at its end.
* The lines below it, up to the next command, are what it prints: exactly, but that ``…`` stands for anything. Without
  such lines it may print what it likes.
* ``keychain-auth start`` is a daemon, which goes on running.
* A block that is introduced by "Save this as `FILE`" is written into FILE.
* Whoever is asked something answers "y", and that is also the value of a secret that is stored.
* ``ID``, and what a page approves, is the program that waits.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sysconfig
from collections.abc import Sequence
from typing import NamedTuple

from docs.test_docs import ROOT, text_of
from integrations import lab
from keychain_auth.policy.pending import approval_id, decode_queue
from support.process import Process
from support.world import World

_BLOCK = re.compile(
    r"(?:Save this as `(?P<file>[^`]+)`:\n\n)?^(?P<margin> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=margin)```$",
    re.M | re.S,
)
_CODE = re.compile(r"\s+# exit code (\d+)$")
_END = "-- the end of a command: "


class Shown(NamedTuple):
    """A command, its exit code, and what it prints (empty: anything)."""

    command: str
    code: int
    output: str


class Saved(NamedTuple):
    """A file that the reader is asked to save."""

    name: str
    text: str


def steps(document: str) -> list[Shown | Saved]:
    """What a reader does, in order."""
    found: list[Shown | Saved] = []
    for block in _BLOCK.finditer(text_of(document)):
        if block["file"]:
            found.append(Saved(block["file"], block["body"]))
        elif block["language"] == "console":
            body = re.sub(rf"^{block['margin']}", "", block["body"], flags=re.M)
            for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
                line, _, output = part.partition("\n")
                code = _CODE.search(line)
                found.append(Shown(_CODE.sub("", line), int(code[1]) if code else 0, output.rstrip("\n")))
    return found


class Reader:
    """Somebody who types what a page says."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._started = False
        self.home = world.path  # a path in the home
        world.write("bin/keychain-auth", f'#!/bin/sh\nexec {world.python} -m keychain_auth.cli.main "$@"\n', 0o755)
        world.write("typed", "y\n")
        with open(os.path.join(ROOT, "examples/c/dbtool.c"), encoding="utf-8") as file:  # as in a checkout
            world.write("examples/c/dbtool.c", file.read(), 0o644)
        env = {"PATH": f"{world.path('bin')}:/usr/local/bin:/usr/bin:/bin", "PS1": "", "TERM": "dumb"}
        self._shell: Process = world.spawn(["/bin/bash", "--norc", "--noprofile"], env=env)
        self._seen = 0

    def do(self, step: Shown | Saved, instead: Sequence[tuple[str, str]] = ()) -> None:
        """One step. ``instead``: parts of commands that are somebody's own, and what is typed for them (the first that
        is there). Raises AssertionError with what came instead of what the page shows.
        """
        if isinstance(step, Saved):
            self.world.write(step.name, step.text, 0o644)
        elif re.fullmatch(r"keychain-auth start(?: --\w.*)?", step.command):
            if not self._started:
                self.world.start()
                self._started = True
        else:
            code, output = self._type(self._filled_in(step.command, instead))
            assert code == step.code, f"$ {step.command}\n{output}\nexit code {code}, wanted {step.code}"
            if step.output:
                assert fits(step.output, output), f"$ {step.command}\n{output}\nwanted:\n{step.output}"

    def _filled_in(self, command: str, instead: Sequence[tuple[str, str]]) -> str:
        """The command, with the last program in the queue where the page approves ID, or one of its own."""
        for words, typed in instead:
            if words in command:
                command = command.replace(words, typed)
                break
        waiting = decode_queue(json.dumps(self.world.pending()).encode())
        name = approval_id(waiting[-1]) if waiting else "ID"
        return re.sub(r"(?<=approve )(?:ID|[0-9a-f]{32})\b", name, command)

    def file(self, name: str, text: str, mode: int = 0o644) -> None:
        """A file that the reader has."""
        self.world.write(name, text, mode)

    def has(self, *commands: str) -> None:
        """What the reader has done before. Raises AssertionError if it cannot be done."""
        for command in commands:
            self.do(Shown(command, 0, ""))

    def helpers(self) -> None:
        """The helpers of tools, installed, on the reader's PATH; in the folder $HELPERS."""
        folder = lab.environment()
        self.has(f'export HELPERS={folder}/bin PATH="$PATH:{folder}/bin"', f"ln -s {folder} .local/keychain-auth || :")

    def environment(self) -> None:
        """The virtual environment of the README, with the package in it: lent by the one that the tests run in."""
        folder = self.world.path(".local/keychain-auth")
        self.has(f"{self.world.installation.interpreter} -m venv --without-pip {folder}")
        lent = dict(self.world.installation.env).get("PYTHONPATH")
        places = [lent] if lent else [sysconfig.get_paths()["purelib"], os.path.join(ROOT, "src")]
        [version] = os.listdir(os.path.join(folder, "lib"))
        self.file(f".local/keychain-auth/lib/{version}/site-packages/lent.pth", "\n".join(places) + "\n")

    def _type(self, command: str) -> tuple[int, str]:
        self._shell.feed(f"{{ {command}\n}} < \"$HOME/typed\" 2>&1; printf '\\n%s%d\\n' '{_END}' \"$?\"\n".encode())
        at = self._shell.out.find(lambda line: line.startswith(_END.encode()), self._seen, 60)
        lines = [line.decode("utf-8", "backslashreplace") for line in self._shell.out.all()[self._seen : at + 1]]
        self._seen = at + 1
        return int(lines[-1].removeprefix(_END)), "\n".join(lines[:-1]).strip("\n")


def fits(wanted: str, output: str) -> bool:
    """Whether a command printed what the page shows."""
    pattern = ".*".join(re.escape(part) for part in wanted.split("…"))
    return re.fullmatch(pattern, output, re.DOTALL) is not None


def missing_tools(document: str) -> list[str]:
    """Programs that the page's commands begin with, and that are not here."""
    words = {re.split(r"[\s;|]", step.command)[0] for step in steps(document) if isinstance(step, Shown)}
    return sorted(word for word in words & {"gcc", "openssl", "man"} if not shutil.which(word))
