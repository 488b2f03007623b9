"""A process of a test: started as the user under test, its output collected, always killed at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, cast

from support.lines import PATIENCE, Lines
from support.users import Account


class Process:
    """A program with pipes on stdin, stdout and stderr, in a session of its own."""

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        account: Account,
        cwd: str = "/",
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.words = list(words)
        self._popen = subprocess.Popen(
            self.words, env=dict(env), cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, pass_fds=pass_fds, **account.popen(),
        )  # fmt: skip
        self.pid = self._popen.pid
        self._input = cast(IO[bytes], self._popen.stdin)
        self.out = Lines(cast(IO[bytes], self._popen.stdout))
        self.err = Lines(cast(IO[bytes], self._popen.stderr))

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def feed(self, data: bytes) -> None:
        """Write to its stdin. Raises BrokenPipeError if it is gone."""
        self._input.write(data)
        self._input.flush()

    def end_input(self) -> None:
        """Close its stdin."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit code, once it ended. Raises AssertionError after ``timeout`` seconds."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {timeout} s: {self.words}\n{self.err.text()}") from None
        # What it said last may still be on its way to us. A child that it left behind may hold the pipes for longer.
        self.out.settle()
        self.err.settle()
        return code

    def kill(self) -> None:
        """SIGKILL to it and its children, and wait for the end."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait(PATIENCE)

    def close(self) -> None:
        """Kill it and close its pipes. May be called twice."""
        self.kill()
        self.end_input()
        self.out.close()
        self.err.close()

    def status(self, field: str) -> str:
        """A field of /proc/PID/status: ``VmRSS`` is "12345 kB", ``State`` is "S (sleeping)"."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name == field:
                    return value.strip()
        raise AssertionError(f"no {field} in /proc/{self.pid}/status")

    def rss(self) -> int:
        """Resident memory in bytes."""
        return int(self.status("VmRSS").split()[0]) * 1024

    def cpu_seconds(self) -> float:
        """User and kernel time so far, with the resolution of the clock tick (10 ms)."""
        with open(f"/proc/{self.pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
