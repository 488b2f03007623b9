"""What the vault's tests share: opening, reading without an event loop, children that can be killed, damage."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import traceback
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from keychain_auth.keychain.vault import Vault, open_vault
from keychain_auth.model import Item
from keychain_auth.protectors.keyfile import KeyFile

T = TypeVar("T")
KEPT = ("vault.db", "vault.db-wal", "vault.key", "vault.db.new")


def open_at(folder: Path) -> Vault:
    """The vault in ``folder``, with its key file beside it, as the daemon opens it."""
    return open_vault(str(folder), [KeyFile(str(folder / "vault.key"))])


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine to its end. Waiting for something is a failure; letting others have their turn is not."""
    try:
        while coroutine.send(None) is None:  # asyncio.sleep(0), the only thing that yields None
            pass
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("the coroutine suspended")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[tuple[Vault, asyncio.Runner]]:
    """An open vault and an event loop for its changes; closed afterwards."""
    with asyncio.Runner() as runner:
        vault = open_at(folder)
        try:
            yield vault, runner
        finally:
            runner.run(vault.close())


def placed(vault: Vault) -> Vault:
    """The rows of all that is durable are made, as they are when nobody has written for a moment."""
    vault._worker.submit(lambda: vault._writer.place(vault._writer.waiting_rows)).result()
    return vault


def fill(folder: Path, entries: dict[str, str], service: str = "svc") -> None:
    """Write and close."""
    with opened(folder) as (vault, runner):
        runner.run(vault.write(service, list(entries.items()), {}))


def contents(vault: Vault) -> dict[tuple[str, str], tuple[str | None, dict[str, str] | None]]:
    """Everything, as {(service, target): (value, attributes)}."""
    return {
        (service, item.target): (item.value, item.attributes)
        for service in at_once(vault.services())
        for item in at_once(vault.read_prefix(service, [""], {}))
    }


def values(items: list[Item]) -> list[str | None]:
    return [item.value for item in items]


def snapshot(folder: Path) -> dict[str, bytes]:
    """The bytes of every file that holds data (not the lock, not SQLite's shared memory); an empty log is none."""
    found = {name: folder / name for name in KEPT if (folder / name).is_file()}
    return {name: data for name, path in found.items() if (data := path.read_bytes())}


@contextlib.contextmanager
def tampering(folder: Path) -> Iterator[sqlite3.Connection]:
    """The attacker's own connection to the file."""
    with contextlib.closing(sqlite3.connect(folder / "vault.db", isolation_level=None)) as db:
        yield db


class Child:
    """A forked process that runs ``work(fd)`` and can be killed at any moment; ``fd`` is a pipe to us.

    Forked rather than started: that takes 10 ms instead of 300, so that many moments can be tried.
    """

    def __init__(self, work: Callable[[int], None]) -> None:
        self.pipe, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self.pipe)
                work(theirs)
                status = 0
            except BaseException:  # noqa: BLE001 - whatever it was, a forked child must not return into pytest
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(theirs)

    def kill(self) -> bytes:
        """SIGKILL; what was still in the pipe."""
        os.kill(self.pid, signal.SIGKILL)
        return self.finish()[1]

    def finish(self) -> tuple[int, bytes]:
        """Wait for the end: exit status (negative: signal) and the rest of what it wrote."""
        rest = bytearray()
        while chunk := os.read(self.pipe, 65536):
            rest += chunk
        os.close(self.pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), bytes(rest)
