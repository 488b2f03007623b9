"""Homes for the tests of the daemon on Windows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pipe_lab import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    place = Home(tmp_path / "home")
    try:
        yield place
    finally:
        place.close()
