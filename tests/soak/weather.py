"""What happens to the daemon and its clients while they work: deaths, restarts, a full disk, edits of the policy.

Contract: one thing at a time, in an order that the seed fixes. While the disk is full, and for a moment after, errors
have a reason (``bad_since``). At no moment is the daemon killed while the policy is one that it could not start with.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from support.daemon import Daemon
from support.world import World

_NEVER = ("Traceback", '"fault"', "does not authenticate", "is damaged")
_ROOM = 48_000  # bytes
_AFTER = 1.0  # seconds: answers that were on their way


class Weather:
    """The daemon of ``world``, and its fate."""

    def __init__(self, world: World, disk: str, seed: int) -> None:
        """``disk``: a folder on a small filesystem that may be filled, or empty."""
        self.world = world
        self.counts: Counter[str] = Counter()
        self.slowest_start = 0.0
        self.over = False
        self.lives = 0
        self.failure: BaseException | None = None
        self._disk = disk
        self._chance = random.Random(seed)
        self._policy = threading.RLock()
        self._event = threading.Event()
        self._bad_until = 0.0
        self._full = False
        self._daemon: Daemon | None = None

    # --- for the workers ----------------------------------------------------------------------

    @property
    def calm(self) -> bool:
        """Nothing is wrong with the disk."""
        return not self.bad_since(time.monotonic())

    def bad_since(self, moment: float) -> bool:
        """Has the disk been full at ``moment`` (of time.monotonic) or since?"""
        return self._full or moment < self._bad_until

    def changed(self, seconds: float) -> None:
        """Wait a little, or until it is over."""
        self._event.wait(seconds)

    def stop(self) -> None:
        """It is over."""
        self.over = True
        self._event.set()

    @contextlib.contextmanager
    def policy(self, program: str, read: Sequence[str], write: Sequence[str]) -> Iterator[None]:
        """Inside: the policy grants ``program`` other services."""
        with self._policy:
            policy = self.world.read_policy()
            entry = next(each for each in policy["registered_binaries"] if each["path"] == os.path.realpath(program))
            usual = dict(entry)
            entry["allowed_read_services"], entry["allowed_write_services"] = list(read), list(write)
            self.world.write_policy(policy)
            try:
                yield
            finally:
                entry.update(usual)
                self.world.write_policy(policy)

    # --- the weather --------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the daemon."""
        began = time.monotonic()
        self.lives += 1  # before anybody can be connected to it
        self._daemon = self.world.start("--log-json")
        self.slowest_start = max(self.slowest_start, time.monotonic() - began)

    def run(self, seconds: float, clients: Sequence[Any]) -> None:
        """Have weather for so long, then stop all."""
        end = time.monotonic() + seconds
        kinds = [self._kill, self._kill, self._restart, self._kill_client, self._kill_client, self._misedit]
        if self._disk:
            kinds += [self._fill, self._fill, self._fill_and_kill]
        try:
            while not self.over and time.monotonic() < end:
                self._event.wait(self._chance.uniform(0.1, 1.5))
                if self.over:
                    break
                kind = self._chance.choice(kinds)
                kind(*((clients,) if kind == self._kill_client else ()))
                self._watch_log()
        finally:
            self.stop()

    def end(self) -> Daemon:
        """A last start, for those who look at what is left."""
        self._kill()
        assert self._daemon is not None
        return self._daemon

    def _kill(self) -> None:
        with self._policy:
            assert self._daemon is not None
            self._daemon.kill()
            self._forget()
            self.counts["daemon killed"] += 1
            self.begin()

    def _restart(self) -> None:
        with self._policy:
            assert self._daemon is not None
            assert self._daemon.stop() == 0
            self._watch_log()
            self._forget()
            self.counts["daemon stopped in order"] += 1
            self.begin()

    def _kill_client(self, clients: Sequence[Any]) -> None:
        self._chance.choice(clients).kill()
        self.counts["clients killed"] += 1

    def _misedit(self) -> None:
        """The policy becomes nonsense for a while: the last good one stays, nobody notices."""
        with self._policy:
            # The last good policy is the last that the daemon has seen: let it look, or it may be the one before.
            assert self.world.cli("status").returncode == 0
            policy = self.world.read_policy()
            self.world.write(".config/keychain-auth/config.json", '{"registered_binaries": [')
            self._event.wait(self._chance.uniform(0.05, 0.4))
            self.world.write_policy(policy)
            self.counts["malformed policies"] += 1

    def _fill(self) -> None:
        with self._full_disk():
            self._event.wait(self._chance.uniform(0.05, 0.8))
        self.counts["disk full"] += 1

    def _fill_and_kill(self) -> None:
        with self._policy:
            with self._full_disk():
                self._event.wait(self._chance.uniform(0.05, 0.4))
                assert self._daemon is not None
                self._daemon.kill()
                self._forget()
            self.begin()
        self.counts["disk full, and killed"] += 1

    @contextlib.contextmanager
    def _full_disk(self) -> Iterator[None]:
        filler = os.path.join(self._disk, "filler")
        self._full = True
        fd = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            with contextlib.suppress(OSError):
                while os.write(fd, b"x" * 65536):
                    continue
            with contextlib.suppress(OSError):
                while os.write(fd, b"x" * 512):
                    continue
            if self._chance.random() < 0.5:  # room for the audit log, not for the vault's own
                os.ftruncate(fd, os.fstat(fd).st_size - _ROOM)
            yield
        finally:
            os.close(fd)
            os.unlink(filler)
            self._bad_until = time.monotonic() + _AFTER
            self._full = False

    def _watch_log(self) -> None:
        assert self._daemon is not None
        log = self._daemon.log
        for line in log.splitlines():
            for word in _NEVER:
                assert word not in line, f"the daemon's log says: {line}"

    def _forget(self) -> None:
        """Let go of a dead daemon and its log: there will be hundreds."""
        assert self._daemon is not None
        self._daemon.close()
        self.world._processes.remove(self._daemon)
