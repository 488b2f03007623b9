"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cli.lab import Terminal
from support.waiting import Onlooker
from support.world import World


@pytest.fixture
def terminal(world: World) -> Iterator[Callable[..., Terminal]]:
    """Starts commands on a terminal; they are ended with the test."""
    opened: list[Terminal] = []

    def start(*words: str, columns: int = 200) -> Terminal:
        opened.append(Terminal(world, *words, columns=columns))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def running(world: World) -> World:
    """A world with a daemon."""
    world.start()
    return world


@pytest.fixture
def look(running: World) -> Onlooker:
    """Sees who waits for a person."""
    return Onlooker(running)


@pytest.fixture
def stocked(running: World) -> World:
    """A daemon with three secrets."""
    for target, value in (("url", "postgres://x"), ("odd/na me", "zwei\nZeilen \U0001f511"), ("empty", "")):
        assert running.cli("set", "app", target, input=value).returncode == 0
    return running
