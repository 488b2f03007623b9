"""A copy of this package that the user under test can really run.

A checkout under a folder of mode 0700 cannot be entered by another user. Whether it can is tried, not guessed; if
not, the package and what it needs are copied to a temporary folder, and run by the interpreter that the virtual
environment was made from.
"""

from __future__ import annotations

import atexit
import compileall
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata

import keychain_auth
from keychain_auth.conformance import probe
from support.users import Account

_PACKAGE = os.path.dirname(os.path.abspath(keychain_auth.__file__))
_TRY = "import keychain_auth.errors, msgspec, cryptography.hazmat.primitives.ciphers.aead, click, rich"


@dataclass(frozen=True)
class Installation:
    """``python`` is an interpreter that imports keychain_auth when ``env`` is in its environment."""

    python: str
    env: tuple[tuple[str, str], ...] = ()

    @property
    def interpreter(self) -> str:
        """The real file of the interpreter: what the kernel names as the program of a script."""
        return os.path.realpath(self.python)


@functools.lru_cache(maxsize=4)
def installation_for(account: Account) -> Installation:
    """An installation that ``account`` can run. Raises RuntimeError if there is no way."""
    here = Installation(sys.executable)
    if account.uid == os.geteuid():
        return here
    if not _fails(here, account):
        # What root compiles now, the other user need not compile at each start.
        compileall.compile_dir(_PACKAGE, quiet=2)
        return here
    base = Installation(sys._base_executable, (("PYTHONPATH", _copy()),))  # type: ignore[attr-defined]
    problem = _fails(base, account)
    if problem:
        raise RuntimeError(f"{account.name} cannot run {base.python}: {problem}")
    return base


def _fails(installation: Installation, account: Account) -> str:
    """Why the installation does not work for this user; empty if it does."""
    try:
        done = subprocess.run(
            [installation.python, "-c", _TRY], env={"PATH": "/usr/bin:/bin", **dict(installation.env)}, cwd="/",
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60, **account.popen(),
        )  # fmt: skip
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


def _copy() -> str:
    """A folder, readable by all, with keychain_auth and the packages that it needs at run time."""
    folder = tempfile.mkdtemp(prefix="ka-lib-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(_PACKAGE, os.path.join(folder, "keychain_auth"))
    kit = os.path.join(folder, "keychain_auth", "conformance", "files")  # as the wheel has it
    os.makedirs(kit, exist_ok=True)
    for name in ("talker.c", "requests.json"):
        shutil.copy(probe.shipped(name), kit)
    copy_distributions(_needed("keychain-auth") - {"keychain-auth"} | _extras(), folder)
    compileall.compile_dir(folder, quiet=2)
    return folder


def copy_with_needs(name: str, folder: str) -> None:
    """The distribution ``name`` and all that it requires, from this environment into ``folder``, readable by all.

    Raises metadata.PackageNotFoundError if it is not installed here.
    """
    metadata.distribution(name)
    copy_distributions(_needed(name), folder)


def copy_distributions(names: set[str], folder: str) -> None:
    """The files of these distributions, but no console scripts, into ``folder``; all of ``folder`` readable by all."""
    for name in sorted(names):
        for file in metadata.distribution(name).files or ():
            if ".." in file.parts:  # console scripts
                continue
            target = os.path.join(folder, str(file))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(str(file.locate()), target)
    for parent, _, inside in os.walk(folder):
        os.chmod(parent, 0o755)
        for name in inside:
            os.chmod(os.path.join(parent, name), 0o644)


def _extras() -> set[str]:
    """What the Secret Service and the full-screen view need, as far as it is here."""
    here = [name for name in ("jeepney", "textual") if importlib.util.find_spec(name)]
    return set().union(*(_needed(name) for name in here))


def _needed(name: str) -> set[str]:
    """The distribution and everything that it requires here, without extras."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop().lower().replace("_", "-")
        if current in found:
            continue
        try:
            requirements = metadata.distribution(current).requires or []
        except metadata.PackageNotFoundError:  # a marker of another platform
            continue
        found.add(current)
        for requirement in requirements:
            if "extra ==" not in requirement:
                waiting.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
    return found
