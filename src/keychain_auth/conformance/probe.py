"""The probe: a small native program that does as it is told on a connection, driven over its pipes.

A daemon knows programs by their files, so what asks it must be a program that can be registered, and no interpreter.
The probe is compiled here, from a source that comes with the package; a second one differs in a few bytes, and is the
stranger.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import time
from typing import Any, NamedTuple

from keychain_auth.errors import KeychainAuthError, quoted

_HERE = os.path.dirname(os.path.abspath(__file__))
_CHECKOUT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(_HERE))), "tests")
_FILES = {"talker.c": "support/c/talker.c", "requests.json": "vectors/requests.json"}
PATIENCE = 5.0  # seconds for an answer


class Silence(Exception):
    """Nothing came within the time, or the connection ended before it. The text says which."""


class Programs(NamedTuple):
    """Paths: of the probe, of an equal copy of it, and of a program with other bytes."""

    probe: str
    copy: str
    stranger: str


def shipped(name: str) -> str:
    """A file of the kit: beside this one in an installation, among the tests in a checkout."""
    installed = os.path.join(_HERE, "files", name)
    return installed if os.path.exists(installed) else os.path.join(_CHECKOUT, _FILES[name])


def prepare(folder: str) -> Programs:
    """Compile what is not there yet. The probe stays the same file, so that it stays registered.

    Raises KeychainAuthError without a compiler.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    programs = Programs(*(os.path.join(os.path.realpath(folder), name) for name in ("probe", "copy", "stranger")))
    for path, variant in ((programs.probe, "conformance"), (programs.stranger, "stranger")):
        if not os.path.exists(path):
            _compile(path, variant)
    shutil.copy2(programs.probe, f"{programs.copy}.new")
    os.replace(f"{programs.copy}.new", programs.copy)
    return programs


def _compile(path: str, variant: str) -> None:
    words = ["-std=gnu11", "-O2", f'-DVARIANT="{variant}"', "-o", f"{path}.new", shipped("talker.c")]
    try:
        done = subprocess.run(["cc", *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise KeychainAuthError("a C compiler is needed to make the probe", hint="sudo apt-get install gcc") from None
    if done.returncode != 0:
        raise KeychainAuthError(f"the probe cannot be compiled: {done.stderr.strip()[:500]}")
    os.replace(f"{path}.new", path)


class Probe:
    """A running probe, connected to ``socket``; ``patience`` is how long it waits for an answer, in seconds."""

    def __init__(self, program: str, socket: str, *options: str, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._process = subprocess.Popen(
            [program, socket, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd="/",
        )  # fmt: skip
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("pipes were asked for")
        self._input, self._output = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._lines: list[bytes] = []
        self._rest = b""
        said = self.event("connected", "failed")
        if not said.startswith("connected"):
            self.close()
            raise KeychainAuthError(f"cannot connect to {socket}: {said}", hint=f"ls -l {quoted(socket)}")

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._selector.close()
        self._output.close()
        try:
            self._input.close()
        except BrokenPipeError:
            return

    def send(self, data: bytes) -> None:
        """Exactly these bytes, in one write as far as the kernel takes it. Raises Silence when the probe is gone."""
        self._feed(b"!raw %d\n" % len(data) + data)

    def order(self, words: str) -> None:
        """Something else than sending (see talker.c); returns when it is done. Raises Silence if it cannot be done."""
        self._feed(b"!" + words.encode() + b"\n")
        said = self.event(f"done {words.split(' ', 1)[0]}", "failed")
        if said.startswith("failed"):
            raise Silence(f"{words}: {said}")

    def tell(self, words: str) -> None:
        """The same without waiting: for what replaces the probe, or ends its connection."""
        self._feed(b"!" + words.encode() + b"\n")

    def become(self, program: str) -> None:
        """Exec ``program``, which takes the connection over; returns when it has. Raises Silence."""
        self._feed(b"!exec " + os.fsencode(program) + b"\n")
        self.event("connected")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its answer. Raises Silence."""
        self.send(json.dumps(request).encode() + b"\n")
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer. Raises Silence."""
        line = self._find(lambda line: line[:1] == b"<" or line in _ENDS)
        if line in _ENDS:
            raise Silence("the connection was closed without an answer")
        try:
            answer = json.loads(line[1:])
        except ValueError:
            raise Silence(f"an answer that is no JSON: {line[1:100]!r}") from None
        if not isinstance(answer, dict):
            raise Silence("an answer that is no object")
        return answer

    def ended(self) -> bool:
        """Whether the daemon closed the connection, within the time."""
        try:
            self._find(lambda line: line in _ENDS)
        except Silence:
            return False
        return True

    def event(self, *beginnings: str) -> str:
        """The next event that begins so. Raises Silence."""
        return self._find(lambda line: line[:1] == b"#" and line[1:].decode().startswith(beginnings))[1:].decode()

    def _feed(self, data: bytes) -> None:
        try:
            self._input.write(data)
            self._input.flush()
        except BrokenPipeError:
            raise Silence("the probe has ended") from None

    def _find(self, wanted: Any) -> bytes:
        """The first line that fits, out of the others, which stay for whoever asks for them."""
        until = time.monotonic() + self._patience
        while True:
            for at, line in enumerate(self._lines):
                if wanted(line):
                    return self._lines.pop(at)
            if not self._selector.select(max(0.0, until - time.monotonic())):
                raise Silence(f"no answer within {self._patience:g} s")
            data = os.read(self._output.fileno(), 256 * 1024)
            if not data:
                raise Silence("the probe has ended")
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines += lines


_ENDS = (b"#eof", b"#reset", b"#broken")
