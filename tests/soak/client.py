"""A talker (``support/c/talker.c``) for long runs: its answers are taken as they come, and nothing is kept."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from support.world import World

PATIENCE = 60.0  # seconds; a loaded machine is slow, and a daemon that hangs hangs for longer


class Gone(Exception):
    """The connection ended, or the client was killed."""


class Client:
    """A program that is registered, and its process, which can be killed and started again."""

    def __init__(self, world: World, program: str) -> None:
        self.program = program
        self._world = world
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def connect(self) -> None:
        """Have a process that is connected. Raises Gone if it cannot be now."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [self.program, self._world.socket, "--late"], env=self._world.environment(), cwd=self._world.home,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **self._world.user.popen(),
            )  # fmt: skip
            self._buffer = b""
        self._feed(b"!connect\n")
        while True:
            line = self._line()
            if line == b"#connected":
                return
            if line.startswith(b"#failed"):
                raise Gone(line.decode())

    def send(self, requests: Sequence[Mapping[str, Any]]) -> None:
        """Send all of them at once. Raises Gone."""
        data = b"".join(json.dumps(request).encode() + b"\n" for request in requests)
        self._feed(b"!raw %d\n" % len(data) + data)

    def answer(self) -> dict[str, Any]:
        """The next answer. Raises Gone, AssertionError if none comes."""
        while True:
            line = self._line()
            if line[:1] == b"<":
                answer: dict[str, Any] = json.loads(line[1:])
                return answer
            if line in (b"#eof", b"#reset", b"#broken"):
                raise Gone(line.decode())

    def kill(self) -> None:
        """SIGKILL, whatever it does at this moment."""
        process = self._process
        if process is not None:
            process.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(PATIENCE)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _feed(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        fd = self._process.stdin.fileno()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except BrokenPipeError:
            raise Gone("the client was killed") from None

    def _line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise AssertionError(f"no answer within {PATIENCE:g} s")
            chunk = os.read(fd, 1 << 20)
            if not chunk:
                raise Gone("the client was killed")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
