#!/usr/bin/env python3
"""Programs of Windows, run under Wine as the user under test, in a Windows of their own.

    python tests/windows/wine.py -m pytest tests/platform_windows     the Python of setup.py, on a copy of this checkout

``Wine`` is one Windows: a registry and a C: of its own in a throwaway folder, one wineserver, and a copy of this
package and its tests that the user under test can read. ``close`` ends every process in it and removes it; if nobody
calls that, the server ends by itself ``_LIFE`` seconds after the last program.

A Windows that was never used before takes 15 seconds, and 700 MB that all of them could share. So it is made once,
kept beside the Python of ``setup.py``, and what is copied of it is the registry and the user's folders.

Standard streams are pipes or /dev/null: Wine 8 cannot say of a file of Linux what kind it is, and Python does not
start.
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # ``support``, when this is the program

import setup
import signing

from support import users

ROOT = os.path.normpath(os.path.join(setup.HERE, "..", ".."))
_LIFE = 60
# Of the server, which makes the files. Wine makes a file's list of its mode, and lets it inherit nothing: by this what
# lies in a private folder is private.
_UMASK = 0o077
_VERSION = ("reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f")
_COPIED = ("src", "tests", "pyproject.toml", "examples", "scripts")
_SHARED = os.path.join("drive_c", "windows")
# What is written there all the same, so that each Windows has its own: the Task Scheduler's tasks.
_WRITTEN = (os.path.join("system32", "tasks"),)


class Wine:
    """See above. Raises setup.Unavailable, RuntimeError."""

    def __init__(self) -> None:
        self._account = users.owner()
        self.folder = setup.windows_python()
        template = _template(self.folder, self._account)
        self.home = tempfile.mkdtemp(prefix="ka-wine-")
        try:
            self._account.own(self.home)
            self._prefix = os.path.join(self.home, "prefix")
            _copy_prefix(template, self._prefix)
            self.checkout = os.path.join(self.home, "checkout")
            _copy_checkout(self.checkout)
            signed = os.path.join(self.checkout, "tests", "platform_windows", "signed")
            signing.make_signed(signed, os.path.join(self.folder, "python.exe"))
            _own_all(self.home, self._account)
            _keep_windows(self._prefix)
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Wine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def environment(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        """Of a Windows program: our source is on Python's path."""
        source = os.path.join(self.checkout, "src"), os.path.join(self.checkout, "tests")
        return {
            **_environment(self._prefix, self.home),
            "PYTHONPATH": ";".join(map(windows_path, source)),
            "PYTHONDONTWRITEBYTECODE": "1",
            **(changes or {}),
        }

    def run(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """``python WORDS`` to its end, in the copy of the checkout.

        Raises subprocess.TimeoutExpired, after all that runs in this Windows was ended: it may be used again.
        """
        try:
            done = subprocess.run(
                self.command(*words), env=self.environment(env), cwd=self.checkout, input=stdin, capture_output=True,
                timeout=timeout, check=False, **self._account.popen(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            self._end()
            self._start()
            raise
        texts = [stream.decode("utf-8", "replace").replace("\r\n", "\n") for stream in (done.stdout, done.stderr)]
        return subprocess.CompletedProcess(done.args, done.returncode, *texts)

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """``python WORDS``, with both outputs in one pipe, and nothing to read."""
        return subprocess.Popen(
            self.command(*words), env=self.environment(env), cwd=self.checkout, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **self._account.popen(),
        )  # fmt: skip

    def command(self, *words: str) -> list[str]:
        """What starts the Windows Python with ``words``."""
        return [setup.wine("wine64"), os.path.join(self.folder, "python.exe"), *words]

    def close(self) -> None:
        """End all that runs in it, and remove it. May be called twice."""
        if os.path.isdir(os.path.join(self.home, "prefix")):
            self._end()
        shutil.rmtree(self.home, ignore_errors=True)

    def _start(self) -> None:
        """The server, and the services that every program would else start for itself. They hold no pipe of ours."""
        self._server(f"-p{_LIFE}")
        self._quietly(setup.wine("wine64"), "wineboot")

    def _end(self) -> None:
        self._server("-k")
        self._server("-w")
        _remove_server_folder(self._prefix, self._account)

    def _server(self, word: str) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._quietly(setup.wine("wineserver64"), word)

    def _quietly(self, *words: str) -> None:
        _quietly(words, _environment(self._prefix, self.home), self._account)


def windows_path(path: str) -> str:
    """How Windows programs see a file of Linux: Z: is the root."""
    return "Z:" + path.replace("/", "\\")


def _environment(prefix: str, home: str) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin", "HOME": home, "LANG": "C.UTF-8", "USER": users.owner().name,
        "WINEPREFIX": prefix, "WINEARCH": "win64", "WINEDEBUG": "-all", "WINESERVER": setup.wine("wineserver64"),
        "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=", "DISPLAY": "",
    }  # fmt: skip


def _quietly(words: Sequence[str], environment: Mapping[str, str], account: users.Account) -> None:
    subprocess.run(
        words, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, timeout=120, check=False, umask=_UMASK, **account.popen(),
    )  # fmt: skip


def _template(python: str, account: users.Account) -> str:
    """A Windows that is set up and not running: made once for each version of Wine and each user."""
    with open(setup.wine("wineserver64"), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    folder = os.path.join(os.path.dirname(python), f"windows-{account.name}-{digest}")
    with open(folder + ".lock", "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(folder):
            _make_template(folder, account)
    return folder


def _make_template(folder: str, account: users.Account) -> None:
    work = tempfile.mkdtemp(prefix="new-", dir=os.path.dirname(folder))
    try:
        account.own(work)
        prefix = os.path.join(work, "prefix")
        environment = _environment(prefix, work)
        quietly = functools.partial(_quietly, environment=environment, account=account)
        quietly((setup.wine("wine64"), "wineboot", "-i"))
        quietly((setup.wine("wine64"), *_VERSION))
        for word in ("-k", "-w"):
            quietly((setup.wine("wineserver64"), word))
        _remove_server_folder(prefix, account)
        if not os.path.exists(os.path.join(prefix, "system.reg")):
            raise RuntimeError("wineboot made no registry")
        _own_all(prefix, users.myself())  # nobody writes there any more
        os.chmod(prefix, 0o755)
        os.rename(prefix, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _copy_prefix(template: str, prefix: str) -> None:
    """The registry and the user's folders; the files of Windows itself stay where they are, and are never written."""

    def shared(place: str, names: list[str]) -> set[str]:
        return set(names) & {"windows"} if os.path.relpath(place, template) == "drive_c" else set()

    shutil.copytree(template, prefix, symlinks=True, ignore=shared)
    os.chmod(prefix, 0o700)
    _mirror(os.path.join(template, _SHARED), os.path.join(prefix, _SHARED), _WRITTEN)


def _keep_windows(prefix: str) -> None:
    """The user under test cannot change what is Windows' own, as on Windows. (Only root can see to that.)"""
    folder = os.path.join(prefix, "drive_c")
    for place in (folder, os.path.join(folder, "windows"), os.path.join(folder, "windows", "system32")):
        users.myself().own(place)
        os.chmod(place, 0o755)


def _mirror(source: str, target: str, own: Sequence[str]) -> None:
    """A folder ``target`` of links to what is in ``source``; those of the relative paths ``own`` are empty folders."""
    os.mkdir(target)
    for name in os.listdir(source):
        below = [path.partition(os.sep)[2] for path in own if path.partition(os.sep)[0] == name]
        if not below:
            os.symlink(os.path.join(source, name), os.path.join(target, name))
        elif "" in below:
            os.mkdir(os.path.join(target, name))
        else:
            _mirror(os.path.join(source, name), os.path.join(target, name), below)


def _copy_checkout(folder: str) -> None:
    os.mkdir(folder)
    ignore = shutil.ignore_patterns("finds", "node_modules", ".hypothesis")
    for name in _COPIED:
        source = os.path.join(ROOT, name)
        if os.path.isdir(source):
            shutil.copytree(source, os.path.join(folder, name), ignore=ignore)
        else:
            shutil.copy(source, folder)
    # What is compiled here need not be compiled at the start of each program there: it is the same Python.
    compileall.compile_dir(os.path.join(folder, "src"), quiet=2)


def _own_all(folder: str, account: users.Account) -> None:
    account.own(folder)
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            account.own(os.path.join(parent, name))


def _remove_server_folder(prefix: str, account: users.Account) -> None:
    """Where its wineserver had its socket: Debian's makes a new folder below /tmp, and keeps the name in the prefix."""
    with contextlib.suppress(FileNotFoundError):
        note = os.path.join(prefix, "wineserver")
        with open(note, encoding="ascii") as file:
            folder = os.path.join("/tmp", os.path.basename(file.read().strip()))
        os.unlink(note)
        if os.path.basename(folder).startswith("wine-") and os.stat(folder).st_uid == account.uid:
            shutil.rmtree(folder, ignore_errors=True)


def main(words: list[str]) -> int:
    """Run the Windows Python once, its output as it comes. SIGTERM ends all of it, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with Wine() as windows, windows.start(*words) as process:
            assert process.stdout is not None
            while piece := os.read(process.stdout.fileno(), 65536):
                sys.stdout.buffer.write(piece.replace(b"\r\n", b"\n"))
                sys.stdout.flush()
            return process.wait()
    except setup.Unavailable as why:
        sys.exit(f"Windows programs cannot be run here: {why}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
