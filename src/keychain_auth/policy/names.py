"""Paths of programs, as the kernels of POSIX and of Windows name them. Pure: no file is looked at.

A policy is read by the same rules everywhere, so both forms are known everywhere.
"""

from __future__ import annotations

import re

_WINDOWS = re.compile(r"[A-Za-z]:\\|\\\\[^\\]")  # a drive, or another machine's share


def is_absolute(path: str) -> bool:
    """Does ``path`` begin at a root? Only such a path names one file."""
    return path.startswith("/") or _WINDOWS.match(path) is not None


def is_of_windows(path: str) -> bool:
    """Is it a path of Windows?"""
    return _WINDOWS.match(path) is not None


def file_name(path: str) -> str:
    """The last part of ``path``; of a program of Windows without ``.exe``, in lower case, for so it compares names."""
    if not is_of_windows(path):
        return path.rpartition("/")[2]
    return path.rpartition("\\")[2].lower().removesuffix(".exe")
