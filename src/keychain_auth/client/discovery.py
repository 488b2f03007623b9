"""Which daemon a program talks to.

Contract (protocol, section "Transport"): an explicit path, then ``KEYCHAIN_AUTH_SOCKET``, then the user's default;
and when no socket of the user exists, the one of the system. Whoever chose a path gets that path or an error, never
another daemon.

What it does not promise: that anybody listens there, or that it is the right one. ``trust`` looks at that.
"""

from __future__ import annotations

import os

from keychain_auth.platform.paths import (
    admin_socket_path,
    chosen_socket_path,
    default_socket_path,
    resolve_socket_path,
    system_socket_path,
)

__all__ = ["admin_socket_path", "default_socket_path", "find_socket_path", "resolve_socket_path"]

WAIT_VARIABLE = "KEYCHAIN_AUTH_WAIT"
"""How long a program's requests wait for a person, if the program does not say (``wire.client.checked_wait``)."""


def find_socket_path(explicit: str | os.PathLike[str] | None = None) -> str:
    """The absolute path of the socket to connect to; for clients and for commands that ask a daemon.

    Unlike ``resolve_socket_path``, which says where to *listen*, this falls back to the system's socket. When
    that is not there either, the user's default is returned: it is the one that ``keychain-auth start`` makes.
    Raises InvalidRequest, KeychainAuthError.
    """
    chosen = chosen_socket_path(explicit)
    if chosen is not None:
        return chosen
    own, system = default_socket_path(), system_socket_path()
    if system == own or os.path.exists(own):
        return own
    return system if os.path.exists(system) else own
