"""A disk that fails at a chosen boundary: scenarios run in children of a process that ``c/faults.c`` is preloaded into.

``Disk`` is the test's side. Run as a program, this file is the other side: it forks a child for each line on its stdin,
which takes milliseconds where a fresh interpreter takes 300. What a child finished it has reported through a pipe, a
number each; so the test knows what must be there after the child's end, and what may be.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vault_lab import Child, contents, open_at

from keychain_auth import files
from keychain_auth.errors import KeychainAuthError
from keychain_auth.keychain.vault import Vault, backup, changing, restore
from keychain_auth.protectors.keyfile import KeyFile

HERE = Path(__file__).parent
NONE, KILL, HALF, POWER, CHANCE, FAIL = range(6)
FOR_EVER = 1 << 30
WORDS = "correct horse battery staple"
MANY = [f"target-{number:03}" for number in range(100)]


class Fault(NamedTuple):
    """What happens at the boundary ``at`` (1 is the first): see faults.c. ``times``: how many calls in a row fail."""

    at: int = 0
    action: int = NONE
    number: int = 0
    times: int = 1
    seed: int = 1


NO_FAULT = Fault()


class Outcome(NamedTuple):
    """How a child ended: exit status (negative: signal), what it reported, how many boundaries it met."""

    status: int
    reports: list[int]
    boundaries: int


class Disk:
    """The parent of the children."""

    def __init__(self, library: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "LD_PRELOAD": library, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip

    def run(self, scenario: str, folder: Path, fault: Fault = NO_FAULT) -> Outcome:
        """Run a scenario to its end, whatever that is."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([scenario, str(folder), *fault]) + "\n")
        self._process.stdin.flush()
        return Outcome(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the parent of the children."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=40)


# --- the other side -------------------------------------------------------------------------------

Report = Callable[[int], None]
Mend = Callable[[], None]


class Change(NamedTuple):
    """One change of the scenario ``changes``, and what a dict does in its place."""

    vault: Callable[[Vault], Any]
    model: Callable[[dict[str, str]], dict[str, str]]


def _write(values: dict[str, str]) -> Change:
    return Change(lambda vault: vault.write("svc", list(values.items()), {}, "/bin/p"), lambda old: {**old, **values})


def _delete(*targets: str) -> Change:
    return Change(
        lambda vault: vault.delete("svc", targets, {}),
        lambda old: {target: value for target, value in old.items() if target not in targets},
    )


START = {"a": "start", "b": "start", "c": "start"}
CHANGES = (
    _write({"a": "one", "b": "one", "d": "one"}),
    _delete("a", "c"),
    _write({"long": "x" * 9000, "a": "three"}),
    Change(lambda vault: vault.restore_value("svc", "c", 1), lambda old: {**old, "c": "start"}),
    _write(dict.fromkeys(MANY, "five")),
    Change(lambda vault: vault.forget("svc", "b"), dict),
    _write({"a": "seven", "e": "seven"}),
    _write({"a": "eight", "f": "eight"}),
)


def states() -> list[dict[str, str]]:
    """What the vault holds before the first change, and after each."""
    found = [dict(START)]
    for change in CHANGES:
        found.append(change.model(found[-1]))
    return found


def held(vault: Vault) -> dict[str, str | None]:
    """Everything, by target."""
    return {target: value for (_, target), (value, _) in contents(vault).items()}


def changes(folder: Path, report: Report, mend: Mend) -> None:
    """Every change, each reported when it returned. One that fails must have changed nothing; mended, it succeeds.

    Reported is 0 once the vault is open, n after change n, 100 + n for a failure of change n (100: of opening).
    """
    with asyncio.Runner() as runner:
        try:
            vault = open_at(folder)
        except KeychainAuthError as error:
            assert error.hint, error
            report(100)
            mend()
            vault = open_at(folder)
        report(0)
        for number, change in enumerate(CHANGES, start=1):
            before = states()[number - 1]
            try:
                runner.run(change.vault(vault))
            except KeychainAuthError as error:
                assert "start" not in str(error)
                report(100 + number)
                assert held(vault) == before, number
                mend()
                assert held(vault) == before, number
                runner.run(change.vault(vault))
            assert held(vault) == states()[number], number
            report(number)
        runner.run(vault.close())
    report(len(CHANGES) + 1)


def opening(folder: Path, report: Report, mend: Mend) -> None:
    """A start: the first one, or one that brings an old format to ours. As ``changes``, for opening alone."""
    with asyncio.Runner() as runner:
        try:
            vault = open_at(folder)
        except KeychainAuthError as error:
            assert error.hint, error
            report(100)
            mend()
            vault = open_at(folder)
        report(0)
        runner.run(vault.close())
    report(1)


def replacing(folder: Path, report: Report, mend: Mend) -> None:
    """How the policy, the pending queue and the key file are written."""
    path = str(folder / "config.json")
    for number in range(1, 4):
        try:
            files.replace(path, b"%d" % number * 10000)
        except OSError:
            report(100 + number)
            assert Path(path).read_bytes() in {b"%d" % n * 10000 for n in (number - 1, number)}
            mend()
            files.replace(path, b"%d" % number * 10000)
        report(number)


def put_back(folder: Path) -> None:
    """Restore the backup that the test made beside ``folder``."""
    content = (folder.parent / "backup").read_bytes()
    unpacked = backup.unpack("backup", content, WORDS)
    restore.restore(str(folder), unpacked, KeyFile, str(folder / "vault.key"), "20260521-120000")


def restoring(folder: Path, report: Report, mend: Mend) -> None:
    """A backup in the place of a vault that has changed since, or of nothing."""
    report(0)
    try:
        put_back(folder)
    except (KeychainAuthError, OSError):
        report(101)
        mend()
        put_back(folder)
    report(1)


def careless(folder: Path, report: Report, mend: Mend) -> None:
    """Seven boundaries, to try the disk itself."""
    fd = os.open(folder / "f", os.O_WRONLY | os.O_CREAT, 0o600)  # 1
    files.sync_dir(str(folder))
    os.write(fd, b"one")
    os.fsync(fd)
    os.write(fd, b"two")  # 5
    os.rename(folder / "f", folder / "g")
    files.sync_dir(str(folder))


SCENARIOS: dict[str, Callable[[Path, Report, Mend], None]] = {
    "changes": changes,
    "opening": opening,
    "replacing": replacing,
    "restoring": restoring,
    "careless": careless,
}


def serve() -> None:
    """Read orders, fork, answer."""
    shim = ctypes.CDLL(None)
    changing._QUIET_SECONDS = 3600.0  # the boundaries are the same ones each time: rows are made by the next change
    for line in sys.stdin:
        scenario, folder, at, action, number, times, seed = json.loads(line)

        def work(pipe: int, order: Any = (scenario, folder, at, action, number, times, seed)) -> None:
            name, where, at, action, number, times, seed = order
            shim.faults_arm(os.fsencode(where), ctypes.c_long(at), action, number, ctypes.c_long(times), seed)
            SCENARIOS[name](Path(where), lambda done: _tell(pipe, done), shim.faults_disarm)
            _tell(pipe, 1000 + shim.faults_count())

        status, reports = Child(work).finish()
        numbers = [int.from_bytes(reports[n : n + 4], "big") for n in range(0, len(reports), 4)]
        boundaries = numbers.pop() - 1000 if status == 0 else 0
        print(json.dumps([status, numbers, boundaries]), flush=True)


def _tell(pipe: int, number: int) -> None:
    os.write(pipe, number.to_bytes(4, "big"))


def boundaries(total: int, most: int, seed: int) -> Iterator[int]:
    """Boundaries to try: all of 1 to ``total``, or an even choice of ``most``, another one for each ``seed``."""
    step = max(1, -(-total // most))
    yield from range(1 + seed % step, total + 1, step)


ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)

if __name__ == "__main__":
    serve()
