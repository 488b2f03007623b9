"""Homes for the tests of the daemon on Windows."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    from pipe_lab import Home
else:  # the modules of this folder say themselves why they are skipped, before they need what only Windows has
    Home = object


@pytest.fixture(scope="session", autouse=True)
def desktop() -> None:
    """Here, and not in a program whose output somebody reads to its end.

    The first program that needs a desktop makes Wine start explorer.exe, which keeps that program's output open until
    nobody has a desktop any more.
    """
    if sys.platform == "win32":
        ctypes.windll.user32.GetDesktopWindow()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home of this test's own; no daemon runs yet."""
    place = Home(tmp_path / "home")
    try:
        yield place
    finally:
        place.close()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with a daemon that several tests use: to start one costs seconds under Wine."""
    place = Home(tmp_path_factory.mktemp("shared") / "home")
    try:
        place.settings("[limits]\nunfinished_line_seconds = 3\nconnections_per_process = 8\n")
        place.start()
        yield place
    finally:
        place.close()


@pytest.fixture(scope="session")
def tool(shared: Home) -> str:
    """A program that may do everything with the service ``svc`` there."""
    path = shared.program("tool")
    shared.register(path)
    shared.cli("authorize", path, "svc", "--read", "--write", "--search")
    return path
