"""A file that a person names, as text: UTF-8, and of a size that somebody may want.

Contract: the whole text, or an error that names the file and shows nothing of it. ``-`` is standard input where the
caller allows it. Never more than ``most`` bytes and one are read.
"""

from __future__ import annotations

import sys

from keychain_auth.errors import KeychainAuthError, NotFound, UsageError, quoted


def read_text(file: str, most: int, *, stdin: bool = False) -> str:
    """The text of ``file``, of at most ``most`` bytes. Raises NotFound, UsageError, KeychainAuthError."""
    try:
        if stdin and file == "-":
            content = sys.stdin.buffer.read(most + 1)
        else:
            with open(file, "rb") as opened:
                content = opened.read(most + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except OSError as error:
        raise KeychainAuthError(f"cannot read {file}: {error.strerror}", hint=f"ls -ld {quoted(file)}") from None
    if len(content) > most:
        raise UsageError(f"{file} is larger than {most} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:  # its text would show some of the file: raised below, outside of the handler
        pass
    raise UsageError(f"{file} is not UTF-8 text")
