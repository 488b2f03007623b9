"""Chips for the tests of protectors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support import tpm
from support.tpm import Tpm
from support.world import World


@pytest.fixture
def chips(world: World) -> Callable[[str], Tpm]:
    """Makes TPMs in software, of the user under test; skipped where there is no swtpm."""
    if reason := tpm.missing():
        pytest.skip(reason)
    return lambda name: Tpm(world, name)
