"""``keychain-auth edit``: a value in an editor.

Contract: the value lies in a file of mode 0600, in a folder of mode 0700 made for it, in memory where the system has
such a place (``XDG_RUNTIME_DIR``); file and folder, and what the editor left in it, are gone
afterwards, also when the terminal is closed or a signal ends the command. Nothing is stored unless the text changed and
the editor ended well. What it replaces stays in the history.

What it does not promise: an editor may keep copies elsewhere (swap files, undo, "recent files"). After a SIGKILL, file
and folder stay (in memory, until the session ends).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import click

from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.client import admin
from keychain_auth.errors import EXIT_NOT_FOUND, KeychainAuthError, UsageError

_ENDING = ("SIGTERM", "SIGHUP", "SIGQUIT")
_END_SECONDS = 2.0


@click.command("edit")
@click.argument("service")
@click.argument("target")
@socket_option
@passphrase_option
@json_option
def edit_secret(service: str, target: str, socket: str | None, as_json: bool) -> None:
    """Change a secret in your editor ($VISUAL, $EDITOR, else vi); one that is not there yet begins empty.

    The end of the last line is not part of the value, unless it ends with an empty line.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()) and not (os.environ.get("VISUAL") or os.environ.get("EDITOR")):
        raise UsageError(
            "there is no terminal for an editor",
            hint=f"keychain-auth set {shlex.quote(service)} {shlex.quote(target)} < FILE",
        )
    before = _present(service, target, socket)
    after = _edited(before or "")
    if after == before or (before is None and not after):
        outcome = "unchanged"
    else:
        admin.ask("set", socket=socket, service=service, target=target, value=after)
        outcome = "stored"
    if as_json:
        output.print_json({"outcome": outcome, "service": service, "target": target})
    else:
        output.say(f"{outcome} {service} {target}")


def _present(service: str, target: str, socket: str | None) -> str | None:
    try:
        value: str = admin.ask("get", socket=socket, service=service, target=target)
    except KeychainAuthError as error:
        if error.exit_code == EXIT_NOT_FOUND:
            return None
        raise
    return value


def _end_well() -> None:
    """Let the signals that end a command raise instead: what stands in the clear is removed first."""

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough
        raise SystemExit(128 + number)  # as shells report it

    for name in _ENDING:
        number = getattr(signal, name, None)  # Windows has not all of them
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup asked for another way
            signal.signal(number, end)


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Signals that would raise meanwhile do so at the end."""
    came: list[int] = []
    usual = {}
    for name in (*_ENDING, "SIGINT"):
        number = getattr(signal, name, None)
        if number is not None and callable(handler := signal.getsignal(number)):
            usual[number] = handler
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _run(words: list[str]) -> int:
    """The editor's exit code. It has ended when this returns or raises, so nothing is written afterwards."""
    editor = None
    try:
        with _signals_later():  # one that raised in the middle of it would leave an editor that nobody knows of
            editor = subprocess.Popen(words)
        return editor.wait()
    finally:
        if editor is not None and editor.returncode is None:
            editor.terminate()  # it may have a terminal to put in order
            try:
                editor.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                editor.kill()
                editor.wait()


def _edited(text: str) -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    _end_well()
    folder = tempfile.mkdtemp(prefix="keychain-auth-edit-", dir=runtime if os.path.isdir(runtime) else None)
    try:
        file = os.path.join(folder, "value")
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as opened:
            opened.write(text.encode() + b"\n")
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        words = [*shlex.split(editor), file]
        try:
            code = _run(words)
        except OSError as error:
            raise KeychainAuthError(f"cannot start {words[0]}: {error.strerror}", hint="set EDITOR") from None
        if code != 0:
            raise KeychainAuthError(f"{words[0]} ended with {code}; nothing was stored")
        with open(file, "rb") as opened:  # by its name: editors put a new file there
            content = opened.read()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        return content.removesuffix(b"\n").decode()
    except UnicodeDecodeError:  # its text would show some of the value: raised below, outside of the handler
        pass
    raise UsageError("the value is not UTF-8 text; nothing was stored")
