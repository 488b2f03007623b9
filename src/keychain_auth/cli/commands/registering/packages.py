"""The package managers of this machine, asked what they installed: dpkg and rpm.

Contract: only their own databases are asked, by programs at fixed paths, in an environment of ours: a variable such as
DPKG_ADMINDIR cannot show another database. What the answers mean is in ``policy.vouching``.

What this does not promise: that the database is true. Root can write it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable

from keychain_auth.policy.vouching import Claim, dpkg_digest, dpkg_owners, rpm_digest

_DPKG, _RPM = "/usr/bin/dpkg-query", "/usr/bin/rpm"
_SECONDS = 60.0
_PATTERN = frozenset("*?[]\\\n")  # what dpkg-query would take for a pattern, or print as more than one line


def managers() -> list[Callable[[str], Claim | None]]:
    """Those that there are; each says for a path which package lists it, with which digest."""
    return [ask for program, ask in ((_DPKG, _dpkg), (_RPM, _rpm)) if os.access(program, os.X_OK)]


def claim(path: str) -> Claim | None:
    """The first package that lists the file."""
    if _PATTERN.intersection(path):
        return None
    found = (ask(path) for ask in managers())
    return next((answer for answer in found if answer is not None), None)


def _dpkg(path: str) -> Claim | None:
    for name in _names(path):
        for package in dpkg_owners(_said([_DPKG, "--search", name]), name):
            digest = dpkg_digest(_md5sums(package), name)
            if digest is not None:
                return Claim(package, digest)
    return None


def _names(path: str) -> list[str]:
    """The path, and the one that a package from before the merge of /usr lists for the same file."""
    names = [path]
    if path.startswith("/usr/"):
        older = path.removeprefix("/usr")
        with contextlib.suppress(OSError):
            if os.path.samefile(path, older):
                names.append(older)
    return names


def _md5sums(package: str) -> str:
    place = _said([_DPKG, "--control-path", package, "md5sums"]).strip()
    try:
        with open(place, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:  # "" included: some packages have none
        return ""


def _rpm(path: str) -> Claim | None:
    package = _said([_RPM, "-q", "-f", "--queryformat", "%{NAME}", "--", path]).strip()
    digest = rpm_digest(_said([_RPM, "-q", "-f", "--dump", "--", path]), path) if package else None
    return Claim(package, digest) if digest else None


def _said(words: list[str]) -> str:
    """What the program printed; empty if it failed, as it does for a file of no package."""
    try:
        done = subprocess.run(
            words, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=_SECONDS, cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else ""
