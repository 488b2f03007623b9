"""Fixtures of the daemon's tests: a daemon for the whole machine, and two of its users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from support import users
from support.system import SystemWorld
from support.users import Account
from support.world import World


@pytest.fixture
def machine(world: World) -> Iterator[SystemWorld]:
    """Needs root."""
    with closing(SystemWorld(world)) as made:
        yield made


@pytest.fixture
def ann(stranger: Account) -> Account:
    """Not the user whose home the tests use."""
    return stranger


@pytest.fixture
def bob() -> Account:
    """A third user."""
    found = users.third()
    assert found is not None
    return found
