"""Who could change a file: by its own modes, and by those of every folder above it.

Contract: answers about the files as they are now, by stat(2) of each part of a real path (no symlinks left in it).

What this does not promise: anything about access control lists, or about what root does.
"""

from __future__ import annotations

import contextlib
import os
import stat

_GROUP_OR_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def only_root_writes(path: str) -> bool:
    """The file and every folder above it belong to root, and nobody else may write them.

    False for what does not exist. A folder that is sticky and writable (/tmp) counts as writable.
    """
    place = path
    while True:
        try:
            about = os.stat(place, follow_symlinks=False)
        except OSError:
            return False
        if about.st_uid != 0 or about.st_mode & _GROUP_OR_OTHERS:
            return False
        if place == "/":
            return True
        place = os.path.dirname(place)


def writable_by_others(path: str, uid: int) -> str:
    """The first of the file and its folders that somebody other than root and ``uid`` can change, or "".

    A sticky folder (/tmp) lets nobody rename or remove what belongs to another (unlink(2)).
    """
    place = path
    while True:
        with contextlib.suppress(FileNotFoundError):
            about = os.stat(place, follow_symlinks=False)
            sticky = stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_ISVTX
            if about.st_uid not in (0, uid) or (about.st_mode & _GROUP_OR_OTHERS and not sticky):
                return place
        if place == "/":
            return ""
        place = os.path.dirname(place)
