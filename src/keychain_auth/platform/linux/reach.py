"""Could a process of another user have opened a file by that path? By the modes of the files on the way.

A daemon of the whole machine opens what a command line names, and it may read everything (CAP_DAC_READ_SEARCH). Whoever
is looked at chooses that command line: if he were told a thing that depends on files which he cannot reach, he could
ask the daemon about other people's folders, name by name.

Contract: the walk of path_resolution(7), each folder and link on the way. What the kernel would refuse to a process of
these ids, by owner, group and the rest, is refused here, and so is whatever is not there: the two are not told apart.

What it does not promise: anything about access control lists, which are not read: a folder that lets a user in
by such a list alone counts as closed. And somebody who changes the folders of his own meanwhile is told of these alone.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Collection

_ROOT = 0
_MOST_LINKS = 40  # as the kernel follows at most (path_resolution(7))
_MOST_STEPS = 4096  # names on the way; a path has no more bytes than that


def reaches(path: bytes, folder: int, uid: int, gids: Collection[int]) -> bool:
    """Could ``uid`` with the groups ``gids`` read the file ``path``, which begins at the opened ``folder`` if it is
    relative?"""
    if uid == _ROOT:
        return True
    if len(path) >= _MOST_STEPS:
        return False
    try:
        place = _walk(path, folder, uid, gids)
    except (OSError, ValueError):
        return False
    try:
        return _may(os.fstat(place), uid, gids, stat.S_IROTH)
    finally:
        os.close(place)


def _walk(path: bytes, folder: int, uid: int, gids: Collection[int]) -> int:
    """An O_PATH descriptor of what ``path`` leads to. Raises OSError, also for what these ids may not search."""
    links = steps = 0
    names = deque(path.split(b"/"))
    here = _open(b"/" if path.startswith(b"/") else b".", folder)
    try:
        while names:
            name = names.popleft()
            if name in (b"", b"."):
                continue
            about = os.fstat(here)
            steps += 1
            if steps > _MOST_STEPS or not (stat.S_ISDIR(about.st_mode) and _may(about, uid, gids, stat.S_IXOTH)):
                raise PermissionError(path)
            there = _open(name, here)
            if not stat.S_ISLNK(os.fstat(there).st_mode):
                os.close(here)
                here = there
                continue
            try:
                target = os.readlink(b"", dir_fd=there)
            finally:
                os.close(there)
            links += 1
            if links > _MOST_LINKS:
                raise PermissionError(path)
            names.extendleft(reversed(target.split(b"/")))
            if target.startswith(b"/"):
                root = _open(b"/", here)
                os.close(here)
                here = root
    except BaseException:
        os.close(here)
        raise
    return here


def _open(name: bytes, folder: int) -> int:
    return os.open(name, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)


def _may(about: os.stat_result, uid: int, gids: Collection[int], wanted: int) -> bool:
    """``wanted``: the bit of "others". The first class that fits decides, as the kernel has it."""
    if about.st_uid == uid:
        wanted <<= 6
    elif about.st_gid in gids:
        wanted <<= 3
    return bool(about.st_mode & wanted)
