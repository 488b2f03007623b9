"""A Unix socket that is bound once, by one daemon, in a folder that nobody else can write (``platform.endpoint``)."""

from __future__ import annotations

import os
import socket

from keychain_auth.platform import endpoint
from keychain_auth.platform.macos.audit_token import peer_pid
from keychain_auth.platform.macos.channel import MacosChannel
from keychain_auth.platform.macos.paths import LONGEST_SOCKET_PATH

_BACKLOG = 128  # kern.ipc.somaxconn


class MacosListener:
    """See ``Listener``. Raises DaemonAlreadyRunning, UnsafeFile, OSError."""

    def __init__(self, path: str) -> None:
        endpoint.require_length(path, LONGEST_SOCKET_PATH)
        self.path = path
        endpoint.prepare_folder(os.path.dirname(path))
        self._lock = endpoint.take_lock(path)
        try:
            endpoint.remove_stale(path, peer_pid)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            endpoint.bind(self._socket, path, _BACKLOG)
            about = os.stat(path, follow_symlinks=False)
        except BaseException:
            os.close(self._lock)
            raise
        self._bound = (about.st_dev, about.st_ino)
        self._remove = True

    def fileno(self) -> int:
        """The listening descriptor."""
        return self._socket.fileno()

    def accept(self) -> MacosChannel:
        """The next connection. Raises BlockingIOError when none waits."""
        return MacosChannel(self._socket.accept()[0])

    def share(self) -> tuple[int, bool]:
        """See ``Listener.share``."""
        ours, self._remove = self._remove, False
        return os.dup(self._socket.fileno()), ours

    def close(self) -> None:
        """Stop listening; remove the socket if it is still ours; let the lock go."""
        self._socket.close()
        if self._remove:
            endpoint.unlink_own(self.path, self._bound)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
