"""The code that the daemon is made of: what it loads late is what was there at its start.

Some parts are loaded when they are needed for the first time (notifications, keychains, what Python itself puts off).
Where the package, or Python, lies in a folder of the user's, any program of that user could exchange such a part under
a daemon that runs, with its vault open, and so become a part of it. From ``watch`` on a module is loaded only from a
file that root alone can write, or from a source file that is still in the version (device, inode, size, times) in which
it was at that moment. Its bytecode is not read then. What is mapped already, the libraries of such folders, is made the
daemon's own (``platform.linux.own_pages``).

What it does not promise: anything about files that were changed before the start. Who can write the package can change
it, and end the daemon; the next one is his. Nor about writes that leave a file's times as they are
(docs/threat-model.md, "Program files that your own user can write").
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.machinery import BuiltinImporter, ExtensionFileLoader, FrozenImporter, ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import keychain_auth
from keychain_auth.daemon.journal import Journal
from keychain_auth.platform.local import keep_mapped_code
from keychain_auth.platform.place import only_root_writes

if TYPE_CHECKING:
    from importlib.abc import Loader  # loads what reads archives, too: half a megabyte for a name

# Other people's packages that parts of ours import when they are loaded.
_NEEDED = ("cryptography", "jeepney", "msgspec")
# Folders of Python's own library that a daemon never imports from, and that hold half of its files.
_LEFT_OUT = frozenset(("__pycache__", "test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages"))

_LIBRARY = os.path.dirname(os.path.abspath(os.__file__))
# Its parts in C are loaded by name, so they cannot be looked at and loaded in one: those that may be needed, now.
_IN_C = ("_ssl", "_hashlib", "unicodedata", "zlib", "_bz2", "_lzma")

Version = tuple[int, int, int, int, int]


def watch(journal: Journal) -> None:
    """From now on nothing else is imported. What is refused is told to the ``journal``. Raises OSError."""
    if not only_root_writes(_LIBRARY):
        for name in _IN_C:
            with contextlib.suppress(ImportError):
                import_module(name)
    for file in keep_mapped_code():
        journal.warning("a program of this user can change the daemon's code", file=file, mend="install it as root")
    versions: dict[str, Version] = {}
    for folder in _folders():
        if not only_root_writes(folder):
            versions.update(_sources(folder))
    ours = (BuiltinImporter, FrozenImporter)
    others = [finder for finder in sys.meta_path if finder not in ours]
    sys.meta_path[:] = [*ours, _Finder(others, versions, journal)]


class _Finder:
    """Asks the finders that were there before, and looks at what they found. See ``importlib.abc.MetaPathFinder``."""

    def __init__(self, finders: Sequence[Any], versions: dict[str, Version], journal: Journal) -> None:
        self._finders = finders
        self._versions = versions
        self._journal = journal

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Raises ImportError for what must not be loaded."""
        for finder in self._finders:
            spec: ModuleSpec | None = finder.find_spec(name, path, target)
            if spec is not None:
                return self._checked(name, spec)
        return None

    def _checked(self, name: str, spec: ModuleSpec) -> ModuleSpec:
        file = spec.origin if spec.has_location and spec.origin else ""
        archive = getattr(spec.loader, "archive", "")  # of zipimport, which reads the file anew for each module
        real = os.path.realpath(archive or file) if file else ""
        kind = type(spec.loader)
        if real and only_root_writes(real):
            if real == (archive or file):
                return spec
            if issubclass(kind, (SourceFileLoader, ExtensionFileLoader)):
                # By its real name: a link on the way may be the user's, and lead elsewhere when it is opened.
                return _spec(name, real, kind(name, real), spec)
        version = self._versions.get(_key(file))
        if version is None or not issubclass(kind, SourceFileLoader):
            raise self._refused(name, f"{file or name} was not there when the daemon started")
        loader = _AsItWas(name, file, version)
        if not loader.read():
            raise self._refused(name, f"{file} has changed since the daemon started")
        return _spec(name, file, loader, spec)

    def _refused(self, name: str, why: str) -> ImportError:
        self._journal.error("not loaded", module=name, why=why, mend="keychain-auth restart")
        return ImportError(f"{name}: {why}", name=name)


class _AsItWas(SourceFileLoader):
    """Loads a source file, if it is in this version. Its bytecode may be anybody's."""

    def __init__(self, name: str, path: str, version: Version) -> None:
        super().__init__(name, path)
        self._version = version
        self._source = b""

    def read(self) -> bool:
        """Is it? Then it is in memory from now on."""
        with open(self.path, "rb") as file:
            self._source = file.read()
            return _version(os.fstat(file.fileno())) == self._version

    def get_code(self, fullname: str) -> CodeType:
        """See ``importlib.abc.SourceLoader``."""
        code: CodeType = compile(self._source, self.path, "exec", dont_inherit=True)
        return code


def _spec(name: str, file: str, loader: Loader, found: ModuleSpec) -> ModuleSpec:
    spec = ModuleSpec(name, loader, origin=file, is_package=found.submodule_search_locations is not None)
    spec.has_location = True
    if spec.submodule_search_locations is not None:
        spec.submodule_search_locations.append(os.path.dirname(file))
    return spec


def _folders() -> Iterator[str]:
    """Where parts may lie that are loaded late: the package, what it needs, and Python's own library."""
    yield os.path.dirname(os.path.abspath(keychain_auth.__file__))
    yield _LIBRARY
    for name in _NEEDED:
        spec = find_spec(name)
        if spec is not None and spec.origin:
            yield os.path.dirname(spec.origin)


def _sources(folder: str) -> Iterator[tuple[str, Version]]:
    with os.scandir(folder) as names:
        for entry in names:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _LEFT_OUT:
                    yield from _sources(entry.path)
            elif entry.name.endswith(".py"):
                # (What Windows gives with the listing has no number of the file.)
                yield _key(entry.path), _version(os.stat(entry.path))


def _key(file: str) -> str:
    return os.path.normcase(os.path.abspath(file)) if file else ""


def _version(about: os.stat_result) -> Version:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
