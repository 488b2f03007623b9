"""Does a package manager vouch for a file, and what does that mean for an entry. Pure.

Contract: a file that changed since it was registered is vouched for if a package lists it with the digest that it has
now, and only root could have put it there. An entry is renewed if every file of it that changed (the program, its
interpreter, its libraries) is vouched for. What is unchanged needs nobody's word.

What this does not promise: that the package is a good one. Who may install packages is root here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from keychain_auth.model import Entry, Program

Outcome = Literal["updated", "unchanged", "left"]


class Claim(msgspec.Struct, frozen=True):
    """What a package says of a file: the digest in hex, SHA-256 or (Debian) MD5, told apart by its length."""

    package: str
    digest: str


class Seen(msgspec.Struct, frozen=True):
    """A file as it is now. ``problem``: why it could not be read; empty digests then. ``of_root``: only root could have
    put it there. ``manager``: a package manager is there to be asked."""

    sha256: str = ""
    md5: str = ""
    of_root: bool = False
    claim: Claim | None = None
    manager: bool = True
    problem: str = ""


class Plan(msgspec.Struct, frozen=True):
    """What becomes of an entry: ``hashes`` are the new ones by path, ``packages`` who vouches, ``why`` it is left."""

    outcome: Outcome
    hashes: dict[str, str] = {}
    packages: tuple[str, ...] = ()
    why: str = ""


def doubt(path: str, seen: Seen) -> str:
    """Why nobody vouches for the file; empty if a package does."""
    if seen.problem:
        return seen.problem
    if not seen.manager:
        return "there is no package manager here that is known (dpkg, rpm)"
    if seen.claim is None:
        return f"{path} belongs to no package"
    present = seen.sha256 if len(seen.claim.digest) == len(seen.sha256) else seen.md5
    if seen.claim.digest != present:
        return f"{path} is not what the package {seen.claim.package} installed"
    if not seen.of_root:
        return f"{path} could be changed by others than root"
    return ""


def plan(entry: Entry, files: Mapping[str, Seen]) -> Plan:
    """What becomes of the entry. ``files`` has the path of every one of ``parts(entry)``."""
    hashes: dict[str, str] = {}
    packages: dict[str, None] = {}
    for part in parts(entry):
        if files[part.path].sha256 == part.sha256:
            continue
        seen = files[part.path]
        if why := doubt(part.path, seen):
            return Plan("left", why=why)
        hashes[part.path] = seen.sha256
        if seen.claim is not None:
            packages[seen.claim.package] = None
    return Plan("updated", hashes, tuple(packages)) if hashes else Plan("unchanged")


def parts(entry: Entry) -> list[Program]:
    """The files whose hashes the entry has."""
    interpreter = [entry.interpreter] if entry.interpreter is not None else []
    return [entry.program, *interpreter, *sorted(entry.libraries, key=lambda library: library.path)]


def dpkg_owners(output: str, path: str) -> list[str]:
    """The packages that ``dpkg-query --search`` names for exactly ``path``: lines "a, b:amd64: /path"."""
    owners: list[str] = []
    for line in output.splitlines():
        names, separator, found = line.partition(": ")
        if separator and found == path and not names.startswith("diversion by "):
            owners += names.split(", ")
    return owners


def dpkg_digest(md5sums: str, path: str) -> str | None:
    """The MD5 of ``path`` in a package's md5sums: lines "digest  usr/bin/tool"."""
    for line in md5sums.splitlines():
        digest, _, name = line.partition("  ")
        if name == path.removeprefix("/"):
            return digest
    return None


def rpm_digest(dump: str, path: str) -> str | None:
    """The digest of ``path`` in what ``rpm --dump`` prints: path, size, mtime, digest, and seven words more."""
    for line in dump.splitlines():
        words = line.rsplit(" ", 10)
        if len(words) == 11 and words[0] == path:
            return words[3]
    return None
