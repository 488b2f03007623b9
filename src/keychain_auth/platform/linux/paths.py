"""Where Linux keeps what: the XDG base directories, with one folder of ours in each.

Contract (protocol, sections "Transport" and "Files"): pure look-ups of the environment. Nothing is created, and
nothing is said about whether it exists.

A relative ``$XDG_*`` is ignored, as the XDG Base Directory Specification demands: it would mean another folder in
every working directory.
"""

from __future__ import annotations

import os

from keychain_auth.errors import KeychainAuthError

NAME = "keychain-auth"
SYSTEM_SOCKETS = "/run/keychain-auth"
SYSTEM_SOCKET = f"{SYSTEM_SOCKETS}/agent.sock"
SYSTEM_CONFIG = "/etc/keychain-auth"
SYSTEM_DATA = "/var/lib/keychain-auth"
SYSTEM_LOGS = "/var/log/keychain-auth"
LONGEST_SOCKET_PATH = 107  # sun_path holds 108 bytes with its NUL (unix(7))


def runtime_dir() -> str:
    """Our folder for sockets: ``$XDG_RUNTIME_DIR/keychain-auth``, else ``~/.cache/keychain-auth``."""
    # Not $XDG_CACHE_HOME: clients in other languages have this path built in.
    return _base("XDG_RUNTIME_DIR", ".cache")


def config_dir() -> str:
    """Our folder for policy and queue: ``$XDG_CONFIG_HOME/keychain-auth``, else ``~/.config/keychain-auth``."""
    return _base("XDG_CONFIG_HOME", ".config")


def data_dir() -> str:
    """Our folder for vault and audit log: ``$XDG_DATA_HOME/keychain-auth``, else ``~/.local/share/keychain-auth``."""
    return _base("XDG_DATA_HOME", ".local/share")


def _base(variable: str, below_home: str) -> str:
    chosen = os.environ.get(variable, "")
    folder = chosen if os.path.isabs(chosen) else os.path.join(_home(), below_home)
    return os.path.join(folder, NAME)


def _home() -> str:
    home = os.environ.get("HOME", "")
    if os.path.isabs(home):
        return home
    import pwd  # noqa: PLC0415 - only for programs that run without $HOME

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise KeychainAuthError(
            f"$HOME is not set and user {os.geteuid()} has no home folder", hint="export HOME=/path/to/home"
        ) from None
