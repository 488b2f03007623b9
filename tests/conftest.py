"""Fixtures for tests of the whole: real processes, an unprivileged user, a home that is gone afterwards."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from again import pytest_sessionfinish, pytest_sessionstart
from support import unix_only

if TYPE_CHECKING:  # loaded by who uses them: tests that run on Windows too have no use for users and homes of Linux
    from support import users
    from support.secret_service import Desktop
    from support.signing import Publisher
    from support.world import World


__all__ = ["pytest_sessionfinish", "pytest_sessionstart"]  # hooks, of another file


def pytest_configure() -> None:
    """A shell without job control starts what runs in the background with SIGINT and SIGQUIT ignored (POSIX, 2.11),
    nohup with SIGHUP, and what the tests start would inherit it: these signals are among the things that they try."""
    for name, usual in (
        ("SIGINT", signal.default_int_handler),
        ("SIGQUIT", signal.SIG_DFL),
        ("SIGHUP", signal.SIG_DFL),
    ):
        number = getattr(signal, name, None)  # Windows has one of them
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture
def world() -> Iterator[World]:
    """A throwaway home. What was started in it is killed at the end, whatever the test did."""
    from support.world import World

    place = World()
    try:
        yield place
    finally:
        place.close()


@pytest.fixture
def publisher(world: World) -> Publisher:
    """A trusted signer for the service ``own``."""
    from support.signing import Publisher, trust

    publisher = Publisher()
    trust(world, publisher.signer("own"))
    return publisher


@pytest.fixture
def worlds() -> Iterator[Callable[[], World]]:
    """Makes further homes, for tests that need more than one."""
    from support.world import World

    made: list[World] = []

    def make() -> World:
        made.append(World())
        return made[-1]

    yield make
    for place in made:
        place.close()


@pytest.fixture
def stranger() -> users.Account:
    """Another unprivileged user than the one whose daemon runs."""
    from support import users

    account = users.stranger()
    if account is None:
        pytest.skip("only root can run a program as another user")
    return account


@pytest.fixture
def desktop(world: World) -> Iterator[Desktop]:
    """A session with a real gnome-keyring; skipped where there is none."""
    from support import secret_service

    if reason := secret_service.missing():
        pytest.skip(reason)
    place = secret_service.Desktop(world)
    try:
        yield place
    finally:
        place.close()


# Two busy cores make generation slow now and then; that says nothing about the code. No deadlines, same examples each
# run.
settings.register_profile("here", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "brief", settings.get_profile("here"), max_examples=10, stateful_step_count=10
)  # where they run a second time
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "here"))


if sys.platform == "win32":

    def pytest_ignore_collect(collection_path: Path) -> bool | None:
        """What cannot be loaded here."""
        return True if _below_tests(collection_path) in unix_only.FILES else None

    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        """What means nothing here."""
        for item in items:
            name = _below_tests(item.path) + "::" + item.nodeid.partition("::")[2]
            for start, why in unix_only.TESTS.items():
                if name.startswith(start):
                    item.add_marker(pytest.mark.skip(reason=why))

    def _below_tests(path: Path) -> str:
        here = Path(__file__).parent
        return path.relative_to(here).as_posix() if path.is_relative_to(here) else ""
