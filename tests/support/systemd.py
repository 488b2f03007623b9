"""A systemd of a test's own: used once it answers, or the test is skipped with what kept it from that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Protocol, TypeVar

import pytest

from support.lines import until


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
