"""Which socket is meant, and where files are: the same answer for daemon, command line and programs."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from keychain_auth.client import discovery
from keychain_auth.errors import InvalidRequest, KeychainAuthError
from keychain_auth.platform import paths
from keychain_auth.platform.linux import paths as linux


def place(path: Path) -> str:
    """A socket file at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return str(path)


def test_folders_follow_the_xdg_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/r")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    monkeypatch.setenv("XDG_DATA_HOME", "/d")
    assert paths.runtime_dir() == "/r/keychain-auth"
    assert paths.config_dir() == "/c/keychain-auth"
    assert paths.data_dir() == "/d/keychain-auth"
    assert paths.default_socket_path() == "/r/keychain-auth/agent.sock"


@pytest.mark.parametrize("useless", [None, "", "relative/folder", "."])
def test_without_absolute_variables_folders_are_below_home(
    monkeypatch: pytest.MonkeyPatch, useless: str | None
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, useless) if useless is not None else monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/h")
    assert paths.runtime_dir() == "/h/.cache/keychain-auth"
    assert paths.config_dir() == "/h/.config/keychain-auth"
    assert paths.data_dir() == "/h/.local/share/keychain-auth"


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_usable_home_the_user_database_is_asked(monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    monkeypatch.setenv("HOME", home) if home is not None else monkeypatch.delenv("HOME")
    assert paths.config_dir() == os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, ".config/keychain-auth")


def test_a_user_without_any_home_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    with pytest.raises(KeychainAuthError, match="no home folder") as caught:
        paths.config_dir()
    assert caught.value.hint.startswith("export HOME=")


def test_an_explicit_path_goes_before_the_variable_and_the_variable_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    default = paths.default_socket_path()
    assert paths.resolve_socket_path() == default
    monkeypatch.setenv("KEYCHAIN_AUTH_SOCKET", "")
    assert paths.resolve_socket_path() == default
    monkeypatch.setenv("KEYCHAIN_AUTH_SOCKET", "/v/agent.sock")
    assert paths.resolve_socket_path() == "/v/agent.sock"
    assert discovery.find_socket_path() == "/v/agent.sock"
    assert paths.resolve_socket_path("/e/agent.sock") == "/e/agent.sock"
    assert discovery.find_socket_path(Path("/e/agent.sock")) == "/e/agent.sock"


def test_a_relative_choice_is_meant_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.resolve_socket_path("agent.sock") == str(tmp_path / "agent.sock")


@pytest.mark.parametrize("unusable", ["", "/a\0b", "/" + "x" * 107])
def test_a_path_that_no_socket_can_have_is_refused(unusable: str) -> None:
    with pytest.raises(InvalidRequest):
        paths.resolve_socket_path(unusable)


def test_the_longest_path_really_is_the_longest(tmp_path: Path) -> None:
    longest = tmp_path / ("x" * (linux.LONGEST_SOCKET_PATH - len(os.fsencode(tmp_path)) - 1))
    assert paths.resolve_socket_path(longest) == place(longest)
    with pytest.raises(OSError, match="too long"):
        place(Path(str(longest) + "x"))


def test_the_systems_socket_is_for_those_without_one_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = Path(paths.default_socket_path()), Path(paths.system_socket_path())
    assert discovery.find_socket_path() == str(own), "neither exists: the one that `start` makes"
    place(system)
    assert discovery.find_socket_path() == str(system)
    assert discovery.resolve_socket_path() == str(own), "a daemon listens on its own"
    place(own)
    assert discovery.find_socket_path() == str(own)
    own.unlink()
    monkeypatch.setenv("KEYCHAIN_AUTH_SOCKET", str(own))
    assert discovery.find_socket_path() == str(own), "a choice is a choice"


def test_the_admin_socket_is_the_neighbour() -> None:
    assert discovery.admin_socket_path("/r/keychain-auth/agent.sock") == "/r/keychain-auth/admin.sock"


@pytest.mark.parametrize("system", ["freebsd14", "aix"])
def test_other_systems_are_refused_in_words(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(paths, "_system", system)
    for ask in (paths.runtime_dir, paths.config_dir, paths.data_dir, paths.resolve_socket_path):
        with pytest.raises(KeychainAuthError, match=f"does not run on this system .{system}."):
            ask()
