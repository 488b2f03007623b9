"""Where the log goes when there is no standard error: a program of Windows without a console has none.

Contract: ``daemon.log`` beside the vault, for its owner alone, appended to. At a start that finds it larger than a MiB,
it becomes ``daemon.log.1`` first, in place of the one before.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

from keychain_auth import files

_MOST = 1024 * 1024


def log_stream(folder: str) -> TextIO:
    """Standard error, else the log file in ``folder``, which is made. Raises OSError, UnsafeFile."""
    there: TextIO | None = sys.stderr
    return there if there is not None else open_log(folder)


def open_log(folder: str) -> TextIO:
    """The log file in ``folder``. Raises OSError, UnsafeFile."""
    files.make_private_dir(folder)
    path = os.path.join(folder, "daemon.log")
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path, follow_symlinks=False).st_size > _MOST:
            os.replace(path, f"{path}.1")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), files.PRIVATE_FILE)
    return open(fd, "a", encoding="utf-8", errors="backslashreplace")
