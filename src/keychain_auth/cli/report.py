"""What every command says when something goes wrong.

Contract (protocol, section "Administration"): an error is one line on stderr, and a second one if there is something
that mends it. Both are ``printable`` (``client.terminal``).

Only the standard library: this is on the fast path.
"""

from __future__ import annotations

import errno
import os
import sys

from keychain_auth.client.terminal import printable, require_streams
from keychain_auth.errors import EXIT_FAILED, EXIT_NOT_FOUND, EXIT_USAGE, KeychainAuthError, quoted

__all__ = ["EXIT_INTERRUPTED", "complain", "failure", "printable", "require_streams"]

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


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


def failure(error: KeychainAuthError | OSError, command: str) -> int:
    """Complain about ``error`` of ``command`` (``keychain-auth set``); the exit code that goes with it."""
    if isinstance(error, OSError):
        _forget_unwritten()
        if isinstance(error, BrokenPipeError):  # `keychain-auth list | head -1`: not worth a word
            return EXIT_FAILED
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        look = "df -h" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "ls -ld"
        complain(f"{where or 'the system says'}: {error.strerror or error}", f"{look} {quoted(where)}" if where else "")
        return EXIT_FAILED
    unexplained = error.exit_code in (EXIT_USAGE, EXIT_NOT_FOUND)
    complain(error, error.hint or (f"{command} --help" if unexplained else ""))
    return error.exit_code


def _forget_unwritten() -> None:
    """What is still buffered for stdout must not fail once more when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
