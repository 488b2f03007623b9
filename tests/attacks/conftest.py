"""Fixtures of the attacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attacks.lab import Broker, start
from attacks.naive import NaiveBroker
from support.daemon import Daemon
from support.world import World


@pytest.fixture
def naive(world: World) -> Iterator[Broker]:
    """Starts naive brokers that trust a program."""
    made: list[NaiveBroker] = []

    def start(trusted: str, **keywords: bool) -> NaiveBroker:
        made.append(NaiveBroker(world.path("naive.sock"), trusted, **keywords))
        return made[-1]

    yield start
    for broker in made:
        broker.close()


@pytest.fixture
def trusted(world: World) -> str:
    """A registered program, and a secret stored by it."""
    return world.granted("trusted", "aws", variant="trusted")


@pytest.fixture
def keeper(world: World) -> Daemon:
    """A daemon with the secret."""
    return start(world)
