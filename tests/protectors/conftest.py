"""Chips for the tests of protectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support import secret_service, tpm
from support.secret_service import Desktop
from support.tpm import Tpm
from support.world import World


@pytest.fixture
def chips(world: World) -> Callable[[str], Tpm]:
    """Makes TPMs in software, of the user under test; skipped where there is no swtpm."""
    if reason := tpm.missing():
        pytest.skip(reason)
    return lambda name: Tpm(world, name)


@pytest.fixture
def desktop(world: World) -> Iterator[Desktop]:
    """A session with a real gnome-keyring; skipped where there is none."""
    if reason := secret_service.missing():
        pytest.skip(reason)
    place = Desktop(world)
    try:
        yield place
    finally:
        place.close()
