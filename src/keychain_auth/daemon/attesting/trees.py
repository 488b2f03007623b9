"""The trees that a launched script imports from: verified before it starts, looked at again when it connects.

Contract:
* ``verify`` returns only if each tree has exactly the digest of the entry, and each folder of imports is in one of them
  or can be changed by root alone. Otherwise it raises LaunchRefused, and names the files that differ, as far as the
  side file of the registration says what was there.
* The hash of a file is remembered by its version, under the rules of ``linux/filehash.py``.

What it does not promise: anything about files that the script opens by itself.
"""

from __future__ import annotations

import json
import os
import threading
from typing import NamedTuple

from keychain_auth.errors import LaunchRefused, quoted
from keychain_auth.identity.facts import FileKey
from keychain_auth.identity.tree import differences, digest
from keychain_auth.model import Entry, Launch, Program
from keychain_auth.platform import trees
from keychain_auth.platform.base import FileTooLarge
from keychain_auth.platform.place import only_root_writes
from keychain_auth.policy.launching import is_python, pack

_REMEMBERED = 200_000
_PACKED = 32  # trees
_NAMED = 8


class TreeWatch:
    """What was verified, in which version. See ``launches.Watch``."""

    def __init__(self, surveys: dict[str, trees.Survey], folders: dict[str, FileKey], *, python: bool) -> None:
        """``surveys`` of whole trees, ``folders`` of which only what is directly in them counts; ``python`` as in
        ``trees.survey``."""
        self._python = python
        self._surveys = surveys
        self._folders = folders
        self._files = {item.path: item.key for found in surveys.values() for item in found.values()}

    def changed(self) -> tuple[str, ...]:
        """The paths of what is no longer as it was, a few of them; for a worker thread."""
        surveys = self._surveys.items()
        below = [path for root, found in surveys for path in trees.changed(root, found, python=self._python)]
        return tuple([*below, *(path for path, key in self._folders.items() if trees.key_of(path) != key)][:_NAMED])

    def has(self, path: str, key: FileKey) -> bool:
        """Was this version of this file verified?"""
        return self._files.get(path) == key


class Verified(NamedTuple):
    """``watch``: None if there is nothing but root's. ``packed``: what is in each tree (``launching.pack``)."""

    watch: TreeWatch | None
    packed: dict[str, str]


class Trees:
    """Verifies; remembers hashes. For worker threads."""

    def __init__(self, side_files: str, filesystems: frozenset[str], limit: int) -> None:
        """``side_files``: the folder of the listings that registrations left. ``limit``: bytes of one file."""
        self._side_files = side_files
        self._tree_hash = trees.TreeHash(filesystems, limit)
        self._hashes: dict[FileKey, str] = {}
        self._packed: dict[str, str] = {}  # by digest: it is the same as long as the tree is
        self._lock = threading.Lock()

    def verify(self, entry: Entry) -> Verified:
        """Raises LaunchRefused."""
        launch, packed = entry.launch, dict[str, str]()
        try:
            surveys = {wanted.path: self._verify_tree(entry, wanted, packed) for wanted in launch.trees}
            folders = _parents(surveys)
            _check_imports(launch, entry)
        except trees.TreeRefused as refused:
            raise LaunchRefused(f"{entry.program.path}: {refused}", hint=_upgrade(entry)) from None
        except FileTooLarge as large:
            raise LaunchRefused(f"{entry.program.path}: a file of it is too large to verify: {large}") from None
        except OSError as error:
            raise LaunchRefused(f"{error.filename}: {error.strerror}", hint=_upgrade(entry)) from None
        return Verified(TreeWatch(surveys, folders, python=_is_python(entry)) if surveys else None, packed)

    def packed(self, entry: Entry) -> dict[str, str]:
        """As in Verified: what each tree must hold, whatever is there now; if that is not known yet, by ``verify``."""
        found = {wanted.path: self._packed.get(wanted.sha256, "") for wanted in entry.launch.trees}
        return found if all(found.values()) else self.verify(entry).packed

    def _verify_tree(self, entry: Entry, wanted: Program, packed: dict[str, str]) -> trees.Survey:
        try:
            found = trees.survey(wanted.path, python=_is_python(entry))
            listing = trees.listing(found, self._hash)
        except OSError as error:
            what = f"{error.filename or wanted.path}: {error.strerror}"
            raise LaunchRefused(f"{entry.program.path} imports from {what}", hint=_upgrade(entry)) from None
        if digest(listing) != wanted.sha256:
            named = self._named(wanted, listing)
            raise LaunchRefused(
                f"what {entry.program.path} imports has changed since it was registered: {named}", hint=_upgrade(entry)
            )
        known = self._packed.get(wanted.sha256) or pack(listing)
        with self._lock:
            if len(self._packed) >= _PACKED:
                self._packed.clear()
            packed[wanted.path] = self._packed[wanted.sha256] = known
        return found

    def _hash(self, item: trees.Found) -> str:
        known = self._hashes.get(item.key)
        if known is not None:
            return known
        made = self._tree_hash.digest(item)
        if made.keep:
            with self._lock:
                if len(self._hashes) >= _REMEMBERED:
                    self._hashes.clear()
                self._hashes[made.key] = made.sha256
        return made.sha256

    def _named(self, wanted: Program, listing: dict[str, str]) -> str:
        """The files that differ, by the listing that the registration left."""
        try:
            with open(os.path.join(self._side_files, f"{wanted.sha256}.json"), encoding="utf-8") as file:
                before = json.load(file)
        except (OSError, ValueError):
            return f"something in {wanted.path}"
        texts = isinstance(before, dict) and all(isinstance(said, str) for said in before.values())
        if not texts or digest(before) != wanted.sha256:
            return f"something in {wanted.path}"
        return ", ".join(trees.place(wanted.path, name) for name in differences(before, listing, _NAMED))


def _check_imports(launch: Launch, entry: Entry) -> None:
    for folder in launch.imports:
        inside = any(folder == each.path or folder.startswith(each.path + "/") for each in launch.trees)
        if not inside and not only_root_writes(folder):
            raise LaunchRefused(f"others than root can change {folder}, and it was not recorded", hint=_upgrade(entry))


def _parents(surveys: dict[str, trees.Survey]) -> dict[str, FileKey]:
    """The folders of what must not be there: something that came and went shows in their ctime."""
    folders = {_existing(os.path.dirname(root)) for root, found in surveys.items() if not found}
    return {folder: trees.key_of(folder) for folder in folders}


def _existing(path: str) -> str:
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _is_python(entry: Entry) -> bool:
    return entry.interpreter is not None and is_python(entry.interpreter.path)


def _upgrade(entry: Entry) -> str:
    return f"keychain-auth upgrade {quoted(entry.program.path)}"
