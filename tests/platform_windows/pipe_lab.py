"""A throwaway home on Windows: a daemon on a pipe of its own, its command line, and programs that ask it.

A program here is a copy of Python under another name, with bytes behind its end that make it another file: to the
daemon it is a program like any other.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from keychain_auth.platform.windows.place import only_root_writes, windows_own

PATIENCE = 120.0
PYTHON = os.path.dirname(sys.executable)
_RUN = """
import sys
from keychain_auth import KeychainAuthClient
try:
    with KeychainAuthClient() as client:
        {code}
except RuntimeError as error:
    print(type(error).__name__, error)
"""


@functools.cache
def _libraries() -> list[str]:
    """The libraries of this Python that somebody other than Windows' own could change."""
    found = [path for kind in ("dll", "pyd") for path in Path(PYTHON).rglob(f"*.{kind}")]
    return [os.path.realpath(path) for path in found if windows_own() and not only_root_writes(os.path.realpath(path))]


class Home:
    """``pipe``: where the daemon listens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pipe = rf"\\.\pipe\keychain-auth-test-{secrets.token_hex(6)}"
        self.config = folder / "roaming" / "keychain-auth"
        self.data = folder / "local" / "keychain-auth"
        self.config.mkdir(parents=True)
        self.data.parent.mkdir(parents=True)
        self.env = {
            **os.environ,
            "APPDATA": str(folder / "roaming"),
            "LOCALAPPDATA": str(folder / "local"),
            "KEYCHAIN_AUTH_SOCKET": self.pipe,
            # A copy of Python elsewhere finds its library and its DLLs by these.
            "PYTHONHOME": PYTHON,
            "PATH": os.pathsep.join((PYTHON, os.environ["PATH"])),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self.log: list[str] = []
        self.daemon: subprocess.Popen[bytes] | None = None

    def settings(self, toml: str) -> None:
        """daemon.toml."""
        (self.config / "daemon.toml").write_text(toml, encoding="utf-8")

    def start(self) -> int:
        """Start the daemon and return its pid, once it listens."""
        self.daemon = subprocess.Popen(
            [sys.executable, "-m", "keychain_auth.cli.main", "start"], env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        listening = threading.Event()

        def read() -> None:
            assert self.daemon is not None and self.daemon.stderr is not None
            for line in self.daemon.stderr:
                self.log.append(line.decode("utf-8", "replace"))
                if "listening" in self.log[-1]:
                    listening.set()
            listening.set()

        self._reader = threading.Thread(target=read)
        self._reader.start()
        assert listening.wait(PATIENCE)
        assert self.daemon.poll() is None, "".join(self.log)
        return self.daemon.pid

    def stop(self) -> int:
        """End it in good order; its exit code."""
        from keychain_auth.platform.windows.stopping import stop

        assert self.daemon is not None
        stop(self.daemon.pid)
        code = self.daemon.wait(PATIENCE)
        self.close()
        return code

    def close(self) -> None:
        """Kill what is left."""
        if self.daemon is not None:
            if self.daemon.poll() is None:
                self.daemon.kill()
                self.daemon.wait(PATIENCE)
            self._reader.join(PATIENCE)
            assert self.daemon.stderr is not None
            self.daemon.stderr.close()
            self.daemon = None
            print("".join(self.log))  # pytest shows it where a test fails

    def cli(self, *words: str, code: int = 0) -> str:
        """``keychain-auth WORDS``; what it said. In this process: to load it costs seconds under Wine."""
        from keychain_auth.cli import main

        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
            for name in ("APPDATA", "LOCALAPPDATA", "KEYCHAIN_AUTH_SOCKET", "PATH"):
                patch.setenv(name, self.env[name])
            ended = main.main(list(words))
        assert ended == code, f"{words} ended with {ended}:\n{said.getvalue()}\n{''.join(self.log)}"
        return said.getvalue()

    def command(self, *words: str, stdin: bytes = b"") -> str:
        """The same as a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "keychain_auth.cli.main", *words], env=self.env, input=stdin, capture_output=True,
            check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout!r} {done.stderr!r}"
        return done.stdout.decode()

    def program(self, name: str) -> str:
        """A program of that name; its path."""
        folder = self.folder / name
        folder.mkdir()
        for library in Path(PYTHON).glob("libffi*.dll"):  # the only one that is not looked for on PATH
            shutil.copy(library, folder)
        path = folder / f"{name}.exe"
        path.write_bytes(Path(sys.executable).read_bytes() + name.encode())
        return os.path.realpath(path)

    def register(self, program: str, *options: str) -> None:
        """``keychain-auth register``, with what Python loads; Wine's ole32 makes code in memory."""
        found = [*_libraries(), *map(str, Path(program).parent.glob("*.dll"))]
        libraries = [word for path in found for word in ("--library", path)]
        self.cli("register", program, "--executable-memory", *libraries, *options)

    def ask(self, program: str, code: str) -> str:
        """What ``program`` prints when it runs ``code`` with a ``client``."""
        return self.run(program, _RUN.format(code=code))

    def run(self, program: str, code: str) -> str:
        """What ``program`` prints when it runs ``code``."""
        done = subprocess.run([program, "-c", code], env=self.env, capture_output=True, check=False, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().replace("\r\n", "\n").strip()

    @contextlib.contextmanager
    def running(self, program: str, code: str) -> Iterator[tuple[int, str]]:
        """``program`` while it waits, after it ran ``code``: its pid, and the one line that ``code`` prints."""
        words = [program, "-c", f"import sys\n{code}\nsys.stdout.flush()\nsys.stdin.read()"]
        process = subprocess.Popen(words, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with process:
            assert process.stdin is not None and process.stdout is not None
            try:
                said = process.stdout.readline()
                yield process.pid, said.decode().strip()
            finally:
                process.stdin.close()
                process.wait(PATIENCE)

    def audit(self) -> list[dict[str, Any]]:
        """The lines of audit.log."""
        text = (self.data / "audit.log").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]
