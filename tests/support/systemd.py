"""A systemd of a test's own: used once it answers, or the test is skipped with what kept it from that."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Protocol, TypeVar

import pytest

from support import users
from support.lines import until
from support.world import World

SYSTEMD = next(filter(os.path.exists, ("/lib/systemd/systemd", "/usr/lib/systemd/systemd")), "")
NEEDS = [
    pytest.mark.skipif(not users.may_be_root(), reason="only root can give systemd what it needs"),
    pytest.mark.skipif(not (SYSTEMD and shutil.which("nsenter")), reason="systemd is not here (Debian: systemd)"),
]
_CONTROL_GROUPS = "/sys/fs/cgroup"


class Systemd(Protocol):
    """What the tests start."""

    def answers(self) -> bool:
        """Can it be asked by now?"""

    def close(self) -> None:
        """End it and all that it started."""


S = TypeVar("S", bound=Systemd)


@contextmanager
def answering(made: S, why_not: str) -> Iterator[S]:
    """``made``, which is closed at the end. ``why_not``: what is said where it never answers."""
    with closing(made):
        try:
            until(made.answers, "systemd answers")
        except AssertionError as error:
            pytest.skip(f"{why_not}: {str(error)[-300:]}")
        yield made


class ControlGroups:
    """A control group of its own in each of the hierarchies that are here (cgroups v1), or in the only one (v2).

    They are made by whoever enters them: ``folders`` says where.
    """

    def __init__(self, world: World, hierarchies: Sequence[str]) -> None:
        name = f"ka-{os.path.basename(world.home)}"
        roots = [root for part in hierarchies if os.path.isdir(root := os.path.join(_CONTROL_GROUPS, part))]
        self.folders = [os.path.join(root, name) for root in roots or [_CONTROL_GROUPS]]

    def remove(self) -> None:
        """Remove them, and what is below them. What is still in use stays."""
        for group in self.folders:
            for folder in sorted(glob.glob(f"{group}/**/", recursive=True), reverse=True):
                with suppress(OSError):
                    os.rmdir(folder)
