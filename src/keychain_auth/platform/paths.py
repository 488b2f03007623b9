"""Where this operating system keeps sockets, policy and data, and which socket is meant.

Contract (protocol, sections "Transport" and "Files"): daemon, command line and client library all ask here, so that
they cannot disagree. Order of precedence for the socket: an explicit path, then ``KEYCHAIN_AUTH_SOCKET``, then the
user's default. On a system that is not supported yet, every function raises KeychainAuthError.

This file chooses the system; the answers are in the folder of that system.
"""

from __future__ import annotations

import os
import sys

from keychain_auth.errors import InvalidRequest, KeychainAuthError
from keychain_auth.platform.linux import paths as linux
from keychain_auth.platform.windows import paths as windows

_LINUX, _MACOS, _WINDOWS = "linux", "darwin", "win32"
_system: str = sys.platform  # a plain text: so that type checkers look at all of it on every system
_system_root: str | None = None

SOCKET_VARIABLE = "KEYCHAIN_AUTH_SOCKET"
AGENT_SOCKET = "agent.sock"
ADMIN_SOCKET = "admin.sock"


def use_system(root: str = "/") -> None:
    """From now on every function here means the daemon of the whole machine, with its folders below ``root``."""
    global _system_root  # noqa: PLW0603 - said once, before anything is looked up
    _system_root = root.rstrip("/")


def is_system() -> bool:
    """Whether the daemon of the whole machine is meant."""
    return _system_root is not None


def log_dir() -> str:
    """Our folder for ``audit.log`` (absolute path). Raises KeychainAuthError."""
    if _system == _MACOS:
        from keychain_auth.platform.macos import paths as macos  # noqa: PLC0415 - one of several systems

        return macos.log_dir()
    return data_dir() if _system_root is None else _system_root + linux.SYSTEM_LOGS


def runtime_dir() -> str:
    """Our folder for sockets (absolute path). Raises KeychainAuthError."""
    if _system == _WINDOWS:
        return windows.data_dir()  # pipes lie in no folder
    _require_supported()
    if _system_root is not None:
        return _system_root + linux.SYSTEM_SOCKETS
    return linux.runtime_dir() if _system == _LINUX else _macos_dir()


def config_dir() -> str:
    """Our folder for ``config.json`` and ``pending.json`` (absolute path). Raises KeychainAuthError."""
    if _system == _WINDOWS:
        return windows.config_dir()
    _require_supported()
    if _system_root is not None:
        return _system_root + linux.SYSTEM_CONFIG
    return linux.config_dir() if _system == _LINUX else _macos_dir()


def data_dir() -> str:
    """Our folder for the vault (absolute path). Raises KeychainAuthError."""
    if _system == _WINDOWS:
        return windows.data_dir()
    _require_supported()
    if _system_root is not None:
        return _system_root + linux.SYSTEM_DATA
    return linux.data_dir() if _system == _LINUX else _macos_dir()


def system_socket_path() -> str:
    """The socket of a daemon that serves the whole machine. Raises KeychainAuthError."""
    if _system == _WINDOWS:
        return windows.AGENT_PIPE  # there is none of the machine beside the user's
    _require_supported()
    return linux.SYSTEM_SOCKET


def default_socket_path() -> str:
    """The socket of this user's daemon when nobody says otherwise. Raises KeychainAuthError."""
    if _system == _WINDOWS:
        return windows.AGENT_PIPE
    return os.path.join(runtime_dir(), AGENT_SOCKET)


def sockets_are_files() -> bool:
    """Do they lie in a folder? Pipes do not."""
    return _system != "win32"


def chosen_socket_path(explicit: str | os.PathLike[str] | None = None) -> str | None:
    """The socket that somebody chose, absolute: ``explicit``, else ``$KEYCHAIN_AUTH_SOCKET``, else None.

    An empty variable counts as unset; an empty ``explicit`` is a mistake and raises InvalidRequest, as does a path
    that no socket can have (a NUL in it, or more than 107 bytes).
    """
    _require_supported()
    if explicit is not None:
        return _usable(os.fspath(explicit), "the socket path")
    variable = os.environ.get(SOCKET_VARIABLE, "")
    return _usable(variable, f"${SOCKET_VARIABLE}") if variable else None


def resolve_socket_path(explicit: str | os.PathLike[str] | None = None) -> str:
    """Where a daemon of this user listens: what ``chosen_socket_path`` says, else the default.

    Raises InvalidRequest, KeychainAuthError.
    """
    return chosen_socket_path(explicit) or default_socket_path()


def admin_socket_path(agent_path: str) -> str:
    """The administration socket that belongs to the agent socket ``agent_path``: its neighbour."""
    if _system == _WINDOWS:
        return windows.admin_pipe(agent_path)
    return os.path.join(os.path.dirname(agent_path), ADMIN_SOCKET)


def _usable(path: str, name: str) -> str:
    if _system == _WINDOWS:
        return windows.usable_pipe(path, name)
    if not path or "\0" in path:
        raise InvalidRequest(f"{name} is empty or holds a NUL: it must be the path of a socket")
    absolute = os.path.abspath(path)  # a later chdir(2) must not lead to another socket
    longest = linux.LONGEST_SOCKET_PATH - (4 if _system == _MACOS else 0)  # sun_path of macOS holds 104 bytes
    if len(os.fsencode(absolute)) > longest:
        raise InvalidRequest(
            f"{name} is longer than {longest} bytes, which is all that a socket can have: {absolute}",
            hint="choose a shorter path",
        )
    return absolute


def _macos_dir() -> str:
    from keychain_auth.platform.macos import paths as macos  # noqa: PLC0415 - as above

    return macos.base_dir()


def _require_supported() -> None:
    if _system not in (_LINUX, _MACOS, _WINDOWS):
        raise KeychainAuthError(f"keychain-auth does not run on this system ({_system}) in this version")
