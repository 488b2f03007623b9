"""A value on the clipboard, for some seconds.

Contract: the value goes to the clipboard's own program on its standard input, never as an argument. After the time it
is taken away again if it is still there: a process of its own, which knows only its SHA-256, looks. What somebody
copied meanwhile stays. Where no such program is at hand, the terminal is asked to copy (OSC 52); it cannot be asked
what it holds, so then nothing is taken away, and that is said.

What it does not promise: every program of the desktop can read the clipboard, and a clipboard manager may keep what was
on it. (``wl-copy --sensitive`` and KDE's hint would tell some of them not to; not all of them listen.)
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from keychain_auth.errors import KeychainAuthError

_SECONDS = 5.0  # for a program that only hands something over


class Tool(NamedTuple):
    """Programs that put on the clipboard, read it, and clear it. ``variable`` says whether its desktop is there."""

    variable: str
    copy: tuple[str, ...]
    paste: tuple[str, ...]
    clear: tuple[str, ...]


_TOOLS = (
    Tool("WAYLAND_DISPLAY", ("wl-copy",), ("wl-paste", "--no-newline"), ("wl-copy", "--clear")),
    Tool(
        "DISPLAY",
        ("xclip", "-selection", "clipboard", "-in"),
        ("xclip", "-selection", "clipboard", "-out"),
        ("xclip", "-selection", "clipboard", "-in"),
    ),
    Tool(
        "DISPLAY",
        ("xsel", "--clipboard", "--input"),
        ("xsel", "--clipboard", "--output"),
        ("xsel", "--clipboard", "-c"),
    ),
    Tool("", ("pbcopy",), ("pbpaste",), ("pbcopy",)),
)


def put(value: str, seconds: int) -> str:
    """Put ``value`` on the clipboard and have it taken away after ``seconds``; a sentence that says what was done.

    Raises KeychainAuthError.
    """
    tool = _at_hand()
    data = value.encode()
    if tool is None:
        return _by_terminal(data)
    if _run(tool.copy, data) is None:
        raise KeychainAuthError(f"{tool.copy[0]} did not take the value", hint=f"{tool.copy[0]} --help")
    words = [sys.executable, "-m", __name__, str(seconds)]
    subprocess.run(words, input=hashlib.sha256(data).hexdigest().encode(), check=True, cwd="/")
    return f"on the clipboard for {seconds} seconds"


def _at_hand() -> Tool | None:
    for tool in _TOOLS:
        if (not tool.variable or os.environ.get(tool.variable)) and all(
            shutil.which(words[0]) for words in (tool.copy, tool.paste, tool.clear)
        ):
            return tool
    return None


def _run(words: tuple[str, ...], data: bytes = b"") -> bytes | None:
    """What the program prints; None if it failed. One that goes on in the background (it holds the selection) keeps no
    pipe of ours open."""
    reading = words in [tool.paste for tool in _TOOLS]
    try:
        done = subprocess.run(
            words, input=data, stdout=subprocess.PIPE if reading else subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False, timeout=_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout or b""


def _by_terminal(data: bytes) -> str:
    try:
        terminal = os.open("/dev/tty", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        raise KeychainAuthError(
            "there is no clipboard: no wl-copy, xclip, xsel or pbcopy, and no terminal",
            hint="apt install wl-clipboard, or xclip",
        ) from None
    try:
        os.write(terminal, b"\x1b]52;c;" + base64.b64encode(data) + b"\x07")
    finally:
        os.close(terminal)
    return "given to the terminal to copy (OSC 52), if it does that; it stays there, clear it yourself"


def forget(digest: str, seconds: float) -> None:
    """After ``seconds`` clear the clipboard, if what it holds has this SHA-256."""
    time.sleep(seconds)
    tool = _at_hand()
    if tool is None:
        return
    held = _run(tool.paste)
    if held is not None and hashlib.sha256(held).hexdigest() == digest:
        _run(tool.clear)


def main() -> None:
    """This module as a program, with SECONDS as its word and the digest on stdin: goes into the background."""
    digest = sys.stdin.read().strip()
    if os.fork():
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    forget(digest, float(sys.argv[1]))


if __name__ == "__main__":
    main()
