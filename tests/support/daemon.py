"""A running keychain-auth daemon, started through its command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from support.lines import PATIENCE, StreamEnded
from support.process import Process
from support.users import Account


class Daemon(Process):
    """``socket`` is where it listens. Its log is in ``err`` (one line each)."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], account: Account, socket: str) -> None:
        self.socket = socket
        self.expected_to_end = False
        super().__init__(words, env, account)

    @property
    def admin_socket(self) -> str:
        """The socket of the command line, beside the other."""
        return os.path.join(os.path.dirname(self.socket), "admin.sock")

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.err.text()

    def wait_ready(self, timeout: float = PATIENCE) -> Daemon:
        """Return when it has said that it listens. Raises AssertionError with its log if it does not."""
        wanted = self.socket.encode()
        try:
            self.err.find(lambda line: b"listening" in line and wanted in line, timeout=timeout)
        except StreamEnded as ended:
            self.expected_to_end = True  # reported here, once
            raise AssertionError(f"the daemon ended with {self.wait()}; {ended}") from None
        return self

    def wait_log(self, text: str, start: int = 0, timeout: float = PATIENCE) -> str:
        """The first log line from line ``start`` on that contains ``text``; waits for it."""
        at = self.err.find(lambda line: text.encode() in line, start, timeout)
        return self.err[at].decode("utf-8", "backslashreplace")

    def stop(self, number: int = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """End it in good order (SIGTERM); its exit code."""
        self.expected_to_end = True
        self.signal(number)
        return self.wait(timeout)

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        self.expected_to_end = True
        super().kill()

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit code, once it ended by itself."""
        self.expected_to_end = True
        return super().wait(timeout)

    def descriptors(self) -> int:
        """How many files it has open (only root may look into a process that forbids dumps)."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))
