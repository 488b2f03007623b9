"""macOS as a whole: the parts that the other files here hold, behind the interface ``Platform``.

Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

import os
from collections.abc import Collection

from keychain_auth.errors import KeychainAuthError
from keychain_auth.identity.facts import HostFacts
from keychain_auth.platform.base import Front, PeerGone
from keychain_auth.platform.macos.listener import MacosListener
from keychain_auth.platform.macos.peer import NAMESPACES
from keychain_auth.platform.macos.place import LOCAL_FILESYSTEMS
from keychain_auth.platform.macos.readiness import Readiness

_NO_LAUNCH = "macOS does not let the daemon look at a program before its first instruction"


class MacosPlatform:
    """See ``Platform``. ``filesystems`` are those allowed beyond the local ones.

    It serves its own user only, and nobody hands sockets to it.
    """

    launches = False
    hands_on = False

    def __init__(
        self,
        filesystems: frozenset[str] = frozenset(),
        paths: Collection[str] = (),
        *,
        system: bool = False,
        guard_group: str = "",
    ) -> None:
        if system:
            raise KeychainAuthError("there is no daemon for the whole machine on macOS", hint="keychain-auth start")
        self._host = HostFacts(os.geteuid(), NAMESPACES, LOCAL_FILESYSTEMS | filesystems)

    def host(self) -> HostFacts:
        """The daemon's own user, and the filesystems it trusts."""
        return self._host

    def listen(self, path: str) -> MacosListener:
        """Bind a Unix socket. Raises DaemonAlreadyRunning, UnsafeFile, OSError."""
        return MacosListener(path)

    def tell(self, state: str) -> None:
        """launchd is told nothing: it watches the process."""

    def readiness(self) -> Readiness:
        """By kqueue."""
        return Readiness()

    def front(self, pid: int) -> Front:
        """See ``Platform.front``. Raises PeerGone, always."""
        raise PeerGone(_NO_LAUNCH)

    def launch_forbidden(self) -> str:
        """Why scripts are only declared here."""
        return _NO_LAUNCH

    def rules(self) -> dict[str, str]:
        """Rule to how it is enforced here, in the order of docs/platforms.md."""
        return {
            "peer": "audit token with pid version (LOCAL_PEERTOKEN), not verified on hardware",
            "filesystems": ", ".join(sorted(self._host.filesystems)),
            "executable": "device, inode and SHA-256 of the mapped file, and what stands at its path",
            "descriptor": "peer end held by the process, close-on-exec",
            "mappings": "hardened runtime with library validation, or the entry allows executable memory",
            "tracer": "not traced, not debugged, at the look",
            "launch": _NO_LAUNCH,
            "message": "the process that used the other end last, after each receive",
            "strict": "where the entry or the settings ask: a valid signature, other holders",
        }

    def close(self) -> None:
        """Nothing is held."""
