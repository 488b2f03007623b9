"""Parents of a process: pinned one by one, and never another process that got their number."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from keychain_auth.platform.linux.looks import Host
from keychain_auth.platform.linux.pinned_parent import parent_of
from keychain_auth.platform.linux.procfs import Process, own_surroundings
from support.lines import PATIENCE

SLEEP = [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host(frozenset(("overlay", "ext4", "tmpfs")), own_surroundings()[0].mount)
    yield made
    made.close()


class Renumbered(Process):
    """A process whose parent had another number when it was first asked: that parent has ended, and its number was
    given to ``owner``."""

    __slots__ = ("asked", "owner")

    def parent(self) -> int:
        self.asked = getattr(self, "asked", 0) + 1
        return self.owner if self.asked == 1 else super().parent()


def test_the_parent_and_the_link_to_it(host: Host) -> None:
    child = subprocess.Popen(SLEEP, stdin=subprocess.PIPE)
    process = Process(child.pid)
    try:
        parent = parent_of(process, host)
        assert parent is not None
        assert (parent.pid, parent.uid) == (os.getpid(), os.geteuid())
        facts = parent.facts()
        assert facts.executable.path == os.path.realpath(f"/proc/{os.getpid()}/exe")
        assert facts.steady
        assert parent.is_parent()
        assert parent.runs_same_exec()
        above = parent.parent()
        assert (0 if above is None else above.pid) in (os.getppid(), 0)
        if above is not None:
            above.close()
        child.communicate(timeout=PATIENCE)
        assert not parent.is_parent()  # the child has ended
        parent.close()
    finally:
        child.kill()
        child.wait(PATIENCE)
        process.close()


def test_a_number_that_was_given_to_another_process(host: Host) -> None:
    child, stranger = (subprocess.Popen(SLEEP, stdin=subprocess.PIPE) for _ in range(2))
    process: Any = Renumbered(child.pid)
    process.owner = stranger.pid
    try:
        naive = Process(process.parent())  # asked once, and believed
        assert naive.pid == stranger.pid
        naive.close()
        process.asked = 0
        parent = parent_of(process, host)
        assert parent is not None
        assert parent.pid == os.getpid()
        parent.close()
    finally:
        for each in (child, stranger):
            each.communicate(timeout=PATIENCE)
        process.close()


def test_pid_1_is_nobody(host: Host) -> None:
    class Orphan(Process):
        __slots__ = ()

        def parent(self) -> int:
            return 1

    process = Orphan(os.getpid())
    assert parent_of(process, host) is None
    process.close()
