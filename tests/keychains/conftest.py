"""A desktop keyring for the tests of keychains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import secret_service
from support.secret_service import Desktop
from support.world import World


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
