"""Fixtures of the client's tests: a daemon that follows a script, and an environment without any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from client_lab import ScriptedDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    scripted = ScriptedDaemon(tmp_path / "d")
    try:
        yield scripted
    finally:
        scripted.close()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test finds the daemon of the person who runs it."""
    for name in ("KEYCHAIN_AUTH_SOCKET", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr("keychain_auth.platform.linux.paths.SYSTEM_SOCKET", str(tmp_path / "system" / "agent.sock"))
