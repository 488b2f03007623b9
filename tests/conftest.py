"""Fixtures for tests of the whole: real processes, an unprivileged user, a home that is gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:  # loaded by who uses them: tests that run on Windows too have no use for users and homes of Linux
    from support import users
    from support.world import World


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


# Two busy cores make generation slow now and then; that says nothing about the code. No deadlines, same examples each
# run.
settings.register_profile("here", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("brief", settings.get_profile("here"), max_examples=10)  # where they run a second time
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "here"))
