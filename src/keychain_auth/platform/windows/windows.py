"""Windows as a whole: the parts that the other files here hold, behind the interface ``Platform``."""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

from collections.abc import Collection

from keychain_auth.identity.facts import HostFacts
from keychain_auth.oslayer.windows import user_id
from keychain_auth.platform.base import Front, PeerGone
from keychain_auth.platform.windows.listener import PipeListener
from keychain_auth.platform.windows.peer import NAMESPACES, Host
from keychain_auth.platform.windows.place import LOCAL_FILESYSTEMS
from keychain_auth.platform.windows.process import own_integrity
from keychain_auth.platform.windows.readiness import Readiness

_NO_LAUNCH = "Windows has no way to look at a script's process before it runs"


class WindowsPlatform:
    """See ``Platform``. ``filesystems`` are those allowed beyond NTFS and ReFS."""

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
        self._shared = Host(LOCAL_FILESYSTEMS | filesystems)
        self._readiness = Readiness()
        self._host = HostFacts(user_id(), NAMESPACES, LOCAL_FILESYSTEMS | filesystems, integrity=own_integrity())

    def host(self) -> HostFacts:
        """The daemon's own user and integrity level, and the filesystems it trusts."""
        return self._host

    def listen(self, path: str) -> PipeListener:
        """Make a pipe. Raises DaemonAlreadyRunning, UnsafeFile, OSError."""
        return PipeListener(path, self._readiness, self._shared)

    def tell(self, state: str) -> None:
        """The Task Scheduler asks for no word."""

    def readiness(self) -> Readiness:
        """By a completion port, the one that the pipes have already."""
        return self._readiness

    def front(self, pid: int) -> Front:
        """Raises PeerGone: see ``launch_forbidden``."""
        raise PeerGone(_NO_LAUNCH)

    def launch_forbidden(self) -> str:
        """No script can be launched."""
        return _NO_LAUNCH

    def rules(self) -> dict[str, str]:
        """Rule to how it is enforced here, in the order of docs/platforms.md."""
        sections = "compared with what runs" if self._shared.sections else "not compared: this Windows does not say"
        return {
            "peer": "GetNamedPipeClientProcessId, held by its handle; start time",
            "user": "SID of its token; integrity level not below the daemon's",
            "filesystems": ", ".join(sorted(self._host.filesystems)),
            "executable": f"SHA-256 of the file at its path while nobody writes it; section {sections}",
            "tracer": "no debugger at the look",
            "mappings": "not looked at: this user can change Windows' own files"
            if self._shared.modules is None
            else "the program's own, Windows' own files, and what the entry lists",
            "launch": _NO_LAUNCH,
            "message": "the process must still live; Windows does not name the sender of a byte",
        }

    def close(self) -> None:
        """Nothing is held beside the port, which closes with the loop."""
