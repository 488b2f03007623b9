"""Linux as a whole: the parts that the other files here hold, behind the interface ``Platform``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from keychain_auth.errors import KeychainAuthError
from keychain_auth.identity.attest import LOCAL_FILESYSTEMS
from keychain_auth.identity.facts import HostFacts
from keychain_auth.platform.linux.listener import UnixListener
from keychain_auth.platform.linux.peer import Host
from keychain_auth.platform.linux.peercred import has_peer_pidfd
from keychain_auth.platform.linux.procfs import own_surroundings
from keychain_auth.platform.linux.readiness import Readiness


class LinuxPlatform:
    """See ``Platform``. ``filesystems`` are those allowed beyond the local ones (tmpfs, overlay)."""

    def __init__(self, filesystems: frozenset[str] = frozenset()) -> None:
        namespaces, filters = own_surroundings()
        trusted = LOCAL_FILESYSTEMS | filesystems
        try:
            self._shared = Host(trusted, namespaces.mount)
        except OSError as error:
            raise KeychainAuthError(
                f"this kernel cannot say who holds a socket ({error.strerror})", hint="modprobe unix_diag"
            ) from None
        self._host = HostFacts(os.geteuid(), namespaces, trusted, filters)

    def host(self) -> HostFacts:
        """The daemon's own user and namespaces, and the filesystems it trusts."""
        return self._host

    def listen(self, path: str) -> UnixListener:
        """Bind a Unix socket. Raises DaemonAlreadyRunning, UnsafeFile, OSError."""
        return UnixListener(path, self._shared)

    def readiness(self, loop: asyncio.AbstractEventLoop, turn: Callable[[Callable[[], None]], None]) -> Readiness:
        """One epoll descriptor for all connections."""
        return Readiness(loop, turn)

    def rules(self) -> dict[str, str]:
        """Rule to how it is enforced here."""
        return {
            "peer": "SO_PEERPIDFD" if has_peer_pidfd() else "pidfd_open and start time",
            "namespaces": "user, pid and mount namespace of the daemon",
            "seccomp": "no more filters than the daemon",
            "executable": "device, inode and SHA-256 of /proc/PID/exe",
            "filesystems": ", ".join(sorted(self._host.filesystems)),
            "descriptor": "peer end held by the process, close-on-exec",
            "message": "SCM_CREDENTIALS pid and executable, each message",
        }

    def close(self) -> None:
        """Close what the looks at peers share."""
        self._shared.close()
