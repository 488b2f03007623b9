"""What lies on the disk when a log is opened: the end of the chain, the head, an unfinished line.

Contract: looks and measures; the one thing it changes is an unfinished last line of ``audit.log``, which is
cut off and counted. What to make of it all is decided in ``resume``.
"""

from __future__ import annotations

import os

from keychain_auth import files
from keychain_auth.audit import shelf
from keychain_auth.audit.chain import Link, origin, unseal_head
from keychain_auth.audit.resume import Found, Head, read_tail

_HEAD_LIMIT = 4096


def survey(path: str, key: bytes, link: Link, fd: int | None) -> Found:
    """Look at the log ``path``, whose current file is open as ``fd`` (None if there is none).

    The end of the chain is in the newest file with a whole line: a rotation that was cut short leaves no
    ``audit.log``. Raises OSError, UnsafeFile.
    """
    torn = 0 if fd is None else shelf.cut_unfinished_line(fd)
    size = 0 if fd is None else os.fstat(fd).st_size
    head = read_head(path, key)
    opened = shelf.open_all(path, tries=1)
    try:
        for _, each in opened:
            backwards = shelf.lines_backwards(each)
            last = next(backwards, None)
            if last is not None:
                first = origin(shelf.first_line(each))
                oldest = first.oldest if first is not None else None
                tail = read_tail(link, last, next(backwards, None))
                return Found(True, size, torn, oldest or 1, tail, head)
    finally:
        for _, each in opened:
            os.close(each)
    return Found(bool(opened), size, torn, 1, None, head)


def read_head(path: str, key: bytes) -> Head:
    """What ``audit.head`` beside the log ``path`` says. Raises UnsafeFile if others can write it."""
    try:
        content = files.read_private(shelf.head_path(path), limit=_HEAD_LIMIT)
    except FileNotFoundError:
        return Head(False, None)
    return Head(True, unseal_head(key, content))
