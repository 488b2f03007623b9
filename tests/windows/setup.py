#!/usr/bin/env python3
"""A real CPython for Windows that runs on Linux, under Wine: made once, then found.

    python tests/windows/setup.py         make it, and say where it is

What it is made of: Wine and the mingw binutils from Debian; the DLLs of CPython for Windows and our dependencies from
wheels that ``requirements/windows.txt`` pins by hash; the standard library of the Python that runs this, whose minor
version it therefore has; and three binaries of a few kilobytes (``binaries.py``).

It lies outside of the checkout, in a folder named by a digest of all that it is made from, readable by every user
(root: /var/cache, others: ``$XDG_CACHE_HOME``); ``rm -r`` of that folder is all that is needed to be rid of it. Making
it takes a minute and 90 MB of downloads; finding it, nothing.

What it does not promise: what Wine does not do. Wine 8 keeps security descriptors and answers AccessCheck by them, but
does not look at them when a pipe is opened; docs/platforms.md says what was seen and what was only asked for.
"""

from __future__ import annotations

import compileall
import fcntl
import glob
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile

import binaries

HERE = os.path.dirname(os.path.abspath(__file__))
PINS = os.path.join(HERE, "..", "..", "requirements", "windows.txt")
MINORS = (11, 12, 13)  # what windows.txt has hashes for
WINE_FOLDERS = ("/usr/lib/wine", "/usr/bin")
_PACKAGES = ("wine64", "binutils-mingw-w64-x86-64")
_CORE = "panda3d"
_NOT_NEEDED = ("_test", "_tkinter", "tcl", "tk8", "winsound", "_msi", "api-ms-")
_NO_LIBRARY = ("__pycache__", "lib-dynload", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter",
               "turtledemo", "ensurepip", "lib2to3")  # fmt: skip


class Unavailable(Exception):
    """Wine cannot be had on this machine. The text says why."""


def windows_python() -> str:
    """The folder with ``python.exe``, made now if it is not there yet. Raises Unavailable, RuntimeError."""
    minor = sys.version_info.minor
    if minor not in MINORS:
        raise Unavailable(f"no Windows wheels are pinned for Python 3.{minor}")
    _install_packages()
    parent = _cache()
    os.makedirs(parent, exist_ok=True)
    folder = os.path.join(parent, f"windows-python-3.{minor}-{_digest()}")
    with open(folder + ".lock", "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs on one machine make it once
        if not os.path.exists(folder):
            _make(folder, minor)
    return folder


def wine(name: str) -> str:
    """The path of ``wine64`` or ``wineserver64``, "" if it is not here."""
    for folder in WINE_FOLDERS:
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    return ""


def _install_packages() -> None:
    """Wine and binutils, from Debian's packages where we may."""
    missing = [] if wine("wine64") and wine("wineserver64") else [_PACKAGES[0]]
    missing += [] if shutil.which("x86_64-w64-mingw32-ld") else [_PACKAGES[1]]
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"not installed here: {names} (as root on Debian: apt-get install {names})")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"apt-get cannot install {names}: {done.stderr.strip()[-300:]}")


def _cache() -> str:
    if os.geteuid() == 0:  # the user under test must be able to enter it
        return "/var/cache/keychain-auth-tests"
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "keychain-auth-tests")


def _digest() -> str:
    """Of all that decides what is made."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (PINS, __file__, binaries.__file__):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()[:12]


def _make(folder: str, minor: int) -> None:
    """Beside its place first: an attempt that was ended half-way is never taken for the whole."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as work:
        made = os.path.join(work, "python")
        packages = os.path.join(made, "Lib", "site-packages")
        os.makedirs(os.path.join(made, "DLLs"))
        _copy_library(os.path.join(made, "Lib"))
        os.makedirs(packages, exist_ok=True)
        for wheel in _wheels(os.path.join(work, "wheels"), minor):
            with zipfile.ZipFile(wheel) as archive:
                if os.path.basename(wheel).startswith(_CORE):
                    _take_core(archive, made)
                else:
                    archive.extractall(packages)
        binaries.make_python(made, work, minor)
        binaries.make_forwarders(made, work, minor)
        # What is compiled now, the user under test need not compile at each start, where it may not even keep it.
        compileall.compile_dir(made, quiet=2, workers=0)
        _pack_library(os.path.join(made, "Lib"), os.path.join(made, f"python3{minor}.zip"))
        for parent, _, names in os.walk(made):
            os.chmod(parent, 0o755)
            for name in names:
                os.chmod(os.path.join(parent, name), 0o644)
        os.chmod(os.path.join(made, "python.exe"), 0o755)
        os.rename(made, folder)


def _wheels(folder: str, minor: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
         "--only-binary=:all:", "--platform", "win_amd64", "--implementation", "cp", "--python-version", f"3.{minor}",
         "--require-hashes", "-r", PINS, "--dest", folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"the Windows wheels cannot be downloaded: {done.stderr.strip()[-300:]}")
    return sorted(glob.glob(os.path.join(folder, "*.whl")))


def _take_core(archive: zipfile.ZipFile, folder: str) -> None:
    """The interpreter's DLLs beside python.exe, the modules in C where Python looks for them."""
    for name in archive.namelist():
        place, _, base = name.rpartition("/")
        if place != "deploy_libs" or base.startswith(_NOT_NEEDED) or not base.endswith((".dll", ".pyd")):
            continue
        with open(os.path.join(folder, "DLLs" if base.endswith(".pyd") else "", base), "wb") as file:
            file.write(archive.read(name))


def _copy_library(folder: str) -> None:
    """The part of the standard library that is in Python: the same files on every system."""
    library = sysconfig.get_path("stdlib")

    def unwanted(place: str, names: list[str]) -> set[str]:
        deeper = os.path.normpath(place) != os.path.normpath(library)
        return {name for name in names if name == "__pycache__" or (not deeper and _is_not_needed(name))}

    shutil.copytree(library, folder, ignore=unwanted, symlinks=False, ignore_dangling_symlinks=True, dirs_exist_ok=True)


def _pack_library(library: str, archive: str) -> None:
    """The compiled library in the zip that Python looks into first: each look at a file costs a millisecond in Wine.

    A program starts in half the time then. ``Lib`` stays, for who looks for files there.
    """
    with zipfile.ZipFile(archive, "w") as packed:
        for parent, folders, names in os.walk(library):
            folders[:] = [name for name in folders if name not in ("__pycache__", "site-packages")]
            for name in names:
                path = os.path.join(parent, name)
                if name.endswith(".py") and os.path.exists(compiled := importlib.util.cache_from_source(path)):
                    packed.write(compiled, os.path.relpath(path, library) + "c")


def _is_not_needed(name: str) -> bool:
    return name in _NO_LIBRARY or name.startswith(("config-", "sitecustomize", "EXTERNALLY"))


if __name__ == "__main__":
    try:
        print(windows_python())
    except Unavailable as why:
        sys.exit(f"Windows tests cannot be set up: {why}")
