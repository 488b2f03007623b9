"""A Unix socket that is bound once, by one daemon, in the order of ``posix.endpoint``."""

from __future__ import annotations

import os
import socket

from keychain_auth.platform.macos.audit_token import peer_pid
from keychain_auth.platform.macos.channel import MacosChannel
from keychain_auth.platform.macos.paths import LONGEST_SOCKET_PATH
from keychain_auth.platform.posix import endpoint
from keychain_auth.platform.posix.listener import SocketListener

_BACKLOG = 128  # kern.ipc.somaxconn


class MacosListener(SocketListener):
    """See ``Listener``. Raises DaemonAlreadyRunning, UnsafeFile, OSError."""

    def __init__(self, path: str) -> None:
        endpoint.require_length(path, LONGEST_SOCKET_PATH)
        endpoint.prepare_folder(os.path.dirname(path))
        super().__init__(path, endpoint.take_lock(path), lambda: _bind(path))

    def accept(self) -> MacosChannel:
        """The next connection. Raises BlockingIOError when none waits."""
        return MacosChannel(self._socket.accept()[0])


def _bind(path: str) -> socket.socket:
    endpoint.remove_stale(path, peer_pid)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    endpoint.bind(listener, path, _BACKLOG)
    return listener
