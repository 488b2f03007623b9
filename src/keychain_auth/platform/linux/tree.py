"""Looks at folder trees: what is in them, in which version, and whether they are still as they were.

Contract: a tree is one folder (or one file) on one filesystem. Links inside it lead to places inside it, or to what
only root can change. A link that leads elsewhere, if only on the way, another filesystem mounted inside, and more than
``MOST`` names are refused, for then the digest would not say what is imported. Of a Python tree cached bytecode is left
out (``identity.tree``), and no link leads to it.

A later look compares versions (device, inode, size, times), of folders too: a file that was put in and taken out again
leaves its trace in the folder's ctime, which nobody but root can set back.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from keychain_auth.identity.facts import FileKey
from keychain_auth.identity.tree import CACHE, is_cached_bytecode
from keychain_auth.platform.posix.ownership import only_root_writes

MOST = 100_000
_MOST_LINKS = 40  # path_resolution(7)
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY


class TreeRefused(Exception):
    """What is there cannot be verified. The text says why."""


class Found(NamedTuple):
    """Something in a tree. ``target`` is that of a link, else ""."""

    path: str
    mode: int
    key: FileKey
    target: str


Survey = dict[str, Found]
"""By name, relative to the tree; "" is the tree itself."""


def survey(root: str, *, python: bool) -> Survey:
    """What is in the tree at the real path ``root``, not yet read; empty if nothing is there.

    ``python``: leave out its cached bytecode; other interpreters may load what is named so. Raises TreeRefused,
    OSError.
    """
    try:
        about = os.stat(root, follow_symlinks=False)
    except FileNotFoundError:
        return {}
    found: Survey = {"": _found(root, about)}
    if stat.S_ISDIR(about.st_mode):
        for name, item in _below(root, "", about.st_dev, python):
            found[name] = item
            if len(found) > MOST:
                raise TreeRefused(f"{root} has more than {MOST} files")
            if item.target:
                _check_link(root, item, python)
    elif not stat.S_ISREG(about.st_mode):
        raise TreeRefused(f"{root} is neither a folder nor a file")
    return found


def listing(found: Survey, hashed: Callable[[Found], str]) -> dict[str, str]:
    """What ``identity.tree`` makes a digest of; ``hashed`` gives the SHA-256 of a file."""
    return {name: _said(item, hashed) for name, item in found.items()}


def open_found(item: Found) -> int:
    """A readable descriptor of the file. Raises OSError."""
    return os.open(item.path, _OPEN)


def changed(root: str, before: Survey, *, python: bool, most: int = 8) -> tuple[str, ...]:
    """The paths of what is no longer in the version of ``before``, a few of them."""
    try:
        now = survey(root, python=python)
    except (TreeRefused, OSError):
        return (root,)
    names = before.keys() | now.keys()
    return tuple(sorted(place(root, name) for name in names if before.get(name) != now.get(name)))[:most]


def place(root: str, name: str) -> str:
    """The path of ``name`` (which may have words after it) in the tree."""
    return f"{root}/{name}" if name and name[0] != " " else root + name


def key_of(path: str) -> FileKey:
    """The version of what is at ``path``. Raises OSError."""
    return _found(path, os.stat(path, follow_symlinks=False)).key


def _below(folder: str, prefix: str, device: int, python: bool) -> Iterator[tuple[str, Found]]:
    with os.scandir(folder) as names:
        for entry in names:
            about = entry.stat(follow_symlinks=False)
            name = prefix + entry.name
            if about.st_dev != device:
                raise TreeRefused(f"another filesystem is mounted at {entry.path}")
            here = name, _found(entry.path, about)
            if not stat.S_ISDIR(about.st_mode):
                yield here
            elif python and entry.name == CACHE:
                yield from _in_cache(here, device)
            else:
                yield here
                yield from _below(entry.path, f"{name}/", device, python)


def _in_cache(cache: tuple[str, Found], device: int) -> Iterator[tuple[str, Found]]:
    """What could be imported from a ``__pycache__`` folder, with the folder; nothing if it only has bytecode."""
    prefix = cache[0] + "/"
    everything = _below(cache[1].path, prefix, device, python=False)
    others = (each for each in everything if not _is_bytecode(each[0][len(prefix) :], each[1]))
    first = next(others, None)
    if first is not None:
        yield cache
        yield first
        yield from others


def _is_bytecode(name: str, item: Found) -> bool:
    return stat.S_ISREG(item.mode) and is_cached_bytecode(name)


def _found(path: str, about: os.stat_result) -> Found:
    key = FileKey(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return Found(path, about.st_mode, key, os.readlink(path) if stat.S_ISLNK(about.st_mode) else "")


def _check_link(root: str, item: Found, python: bool) -> None:
    real = os.path.realpath(item.path)
    if real == root or real.startswith(root + "/"):
        if python and CACHE in real[len(root) :].split("/"):
            raise TreeRefused(f"the link {item.path} leads to cached bytecode, which is not verified: {real}")
    elif not only_root_writes(real):
        raise TreeRefused(f"the link {item.path} leads out of the tree, to {real}")
    for link in _links_on_the_way(item.path):
        if not link.startswith(root + "/") and not only_root_writes(link):
            raise TreeRefused(f"the link {item.path} leads out of the tree, through the link {link}")


def _links_on_the_way(path: str) -> Iterator[str]:
    """Each link that opening ``path`` follows, by the place where it lies; of a loop, as many as the kernel follows."""
    at, rest, followed = "/", path.split("/")[::-1], 0
    while rest and followed <= _MOST_LINKS:
        part = rest.pop()
        if part in ("", "."):
            continue
        here = os.path.dirname(at) if part == ".." else os.path.join(at, part)
        try:
            target = os.readlink(here)
        except OSError:  # no link, or nothing
            at = here
            continue
        yield here
        followed += 1
        rest.extend(target.split("/")[::-1])
        at = "/" if target.startswith("/") else at


def _said(item: Found, hashed: Callable[[Found], str]) -> str:
    if stat.S_ISDIR(item.mode):
        return "folder"
    if stat.S_ISLNK(item.mode):
        return f"link {item.target}"
    return f"file {hashed(item)}" if stat.S_ISREG(item.mode) else "other"
