"""Commands and files as the tests of the command line want them."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Sequence

from support.lines import PATIENCE
from support.world import World

NOT_RUNNING = "keychain-auth daemon is not running. Start it with: keychain-auth start\n"


def script(world: World, name: str = "app.py", text: str = "", mode: int = 0o700) -> str:
    """A Python script in the world's bin folder, run by the interpreter that the world's programs run by."""
    return world.write(f"bin/{name}", text or f"#!{world.installation.interpreter}\nprint('hello')\n", mode)


def closed_stream(world: World, stream: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose standard stream ``stream`` is closed, as ``>&-`` does in a shell."""
    code = "import os, sys; os.close(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
    return subprocess.run(
        [world.python, "-c", code, str(stream), world.python, "-m", "keychain_auth", *words],
        env=world.environment(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
        **world.user.popen(),
    )  # fmt: skip


class Terminal:
    """A command on a terminal of its own (pty(7)): what it shows, and what a person types.

    ``shell``: a shell with job control there instead, and ``words`` are its own.
    """

    def __init__(self, world: World, *words: str, shell: str = "", columns: int = 200) -> None:
        self._screen = b""
        self._seen = 0
        self._fd, terminal = pty.openpty()
        # setsid and a terminal opened without O_NOCTTY: that terminal becomes the controlling one (/dev/tty).
        code = (
            "import os, sys; os.setsid(); name = os.ttyname(0); os.close(os.open(name, os.O_RDWR));"
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        program = [shell] if shell else [world.python, "-m", "keychain_auth"]
        world.user.own(os.ttyname(terminal))
        self.process = subprocess.Popen(
            [world.python, "-c", code, *program, *words],
            env=world.environment({"TERM": "xterm", "COLUMNS": str(columns)}), cwd="/",
            stdin=terminal, stdout=terminal, stderr=terminal, **world.user.popen(),
        )  # fmt: skip
        os.close(terminal)

    @property
    def screen(self) -> str:
        """All that was shown so far."""
        return self._screen.decode("utf-8", "backslashreplace")

    def expect(self, text: str) -> None:
        """Wait until ``text`` is shown, after what was expected before. Raises AssertionError."""
        deadline = time.monotonic() + PATIENCE
        wanted = text.encode()
        while (at := self._screen.find(wanted, self._seen)) < 0:
            assert self._read(deadline), f"{text!r} is not on the screen: {self.screen!r}"
        self._seen = at + len(wanted)

    def type(self, text: str) -> None:
        """Type ``text`` (end a line with a newline)."""
        os.write(self._fd, text.encode())

    def wait(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        os.close(self._fd)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more within {PATIENCE} s: {self.screen!r}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: the last process has left the terminal (pty(7))
            return False
        self._screen += data
        return bool(data)


def modules_after(world: World, words: Sequence[str]) -> set[str]:
    """The modules that are loaded after the command ``words`` has run in a fresh interpreter."""
    code = (
        "import sys; from keychain_auth.cli.main import main; code = main(sys.argv[1:]);"
        "print(*sorted(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = run_code(world, code, *words)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def run_code(world: World, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The Python ``code`` in a process of the world's user, with the arguments ``words``."""
    return subprocess.run(
        [world.python, "-c", code, *words], env=world.environment(), cwd="/", stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=60, **world.user.popen(),
    )  # fmt: skip


__all__ = ["NOT_RUNNING", "Terminal", "closed_stream", "modules_after", "run_code", "script"]
