"""What every command says when something goes wrong, and how text of unknown origin reaches a terminal.

Contract (protocol, section "Administration"): an error is one line on stderr, and a second one if there is something
that mends it. A client chooses paths, targets and command lines; none of their control characters reaches a terminal
as it is, so nobody can move a cursor, forge a second line, or hide text behind the direction marks of Unicode.

Only the standard library: this is on the fast path.
"""

from __future__ import annotations

import os
import sys

from keychain_auth.errors import EXIT_FAILED, KeychainAuthError

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def printable(text: object, keep: str = "") -> str:
    """``text`` with everything that is not printable as an escape (``\\x1b``), except the characters in ``keep``."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii") for char in shown
    )


def complain(message: object, hint: str = "") -> None:
    """One or two lines on stderr: what went wrong, and what to do next."""
    text = printable(message) + "\n"
    if hint:
        text += f"Next: {printable(hint)}\n"
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # nobody listens: the exit code still says it
        return


def failure(error: KeychainAuthError | OSError) -> int:
    """Complain about ``error``; the exit code that goes with it."""
    if isinstance(error, OSError):
        _forget_unwritten()
        if isinstance(error, BrokenPipeError):  # `keychain-auth list | head -1`: not worth a word
            return EXIT_FAILED
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        complain(f"{where or 'the system says: '}{error.strerror or error}")
        return EXIT_FAILED
    complain(error, error.hint)
    return error.exit_code


def require_streams() -> None:
    """Put something in the place of standard streams that the caller closed (``>&-``).

    Otherwise the next file that is opened takes their number: an answer would be printed into the daemon's socket.
    What stands there instead can only be read, so that an answer that nobody gets is a failure.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            if fd != number:
                os.dup2(fd, number)
                os.close(fd)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _forget_unwritten() -> None:
    """What is still buffered for stdout must not fail once more when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
