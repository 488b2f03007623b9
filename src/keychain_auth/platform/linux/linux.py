"""Linux as a whole: the parts that the other files here hold, behind the interface ``Platform``."""

from __future__ import annotations

import grp
import os
from collections.abc import Collection

from keychain_auth.errors import KeychainAuthError
from keychain_auth.identity.attest import LOCAL_FILESYSTEMS
from keychain_auth.identity.facts import HostFacts
from keychain_auth.platform.linux import activation
from keychain_auth.platform.linux.channel import has_passrights
from keychain_auth.platform.linux.condition import allows_user_namespaces
from keychain_auth.platform.linux.launch import Front, forbidden_by
from keychain_auth.platform.linux.listener import UnixListener
from keychain_auth.platform.linux.looks import Host
from keychain_auth.platform.linux.peercred import has_peer_pidfd
from keychain_auth.platform.linux.procfs import own_surroundings
from keychain_auth.platform.linux.readiness import Readiness
from keychain_auth.platform.linux.syscalls import has_cached_lookup
from keychain_auth.platform.linux.sysctl import setting, yama_scope


class LinuxPlatform:
    """See ``Platform``. ``filesystems`` are those allowed beyond the local ones (tmpfs, overlay).

    ``system``: it serves every user of the machine, as a user of its own. ``guard_group``: the group of
    ``keychain-auth-guarded``. ``paths`` are where the daemon will listen: sockets there may have been handed to this
    process (``activation``).
    """

    launches = True
    hands_on = True

    def __init__(
        self,
        filesystems: frozenset[str] = frozenset(),
        paths: Collection[str] = (),
        *,
        system: bool = False,
        guard_group: str = "",
    ) -> None:
        self._system = system
        self._handed = activation.take(paths) if paths else {}
        namespaces, filters = own_surroundings()
        trusted = LOCAL_FILESYSTEMS | filesystems
        try:
            self._shared = Host(trusted, namespaces.mount)
        except OSError as error:
            raise KeychainAuthError(
                f"this kernel cannot say who holds a socket ({error.strerror})", hint="modprobe unix_diag"
            ) from None
        self._host = HostFacts(
            os.geteuid(), namespaces, trusted, filters, serves_all=system, guard=_group(guard_group) if system else -1
        )

    def host(self) -> HostFacts:
        """The daemon's own user and namespaces, and the filesystems it trusts."""
        return self._host

    def listen(self, path: str) -> UnixListener:
        """Bind a Unix socket. Raises DaemonAlreadyRunning, UnsafeFile, OSError."""
        return UnixListener(path, self._shared, self._handed.pop(path, None))

    def tell(self, state: str) -> None:
        """To the service manager, in the words of sd_notify(3)."""
        activation.notify(state)

    def readiness(self) -> Readiness:
        """By epoll."""
        return Readiness()

    def front(self, pid: int) -> Front:
        """See ``Platform.front``."""
        return Front(pid, self._shared)

    def launch_forbidden(self) -> str:
        """What Yama says, if the kernel has it."""
        if self._system:
            return "a daemon of the whole machine launches no scripts: use a daemon of the user's own for them"
        return forbidden_by()

    def rules(self) -> dict[str, str]:
        """Rule to how it is enforced here, in the order of docs/threat-model.md."""
        return {
            "peer": "SO_PEERPIDFD"
            if has_peer_pidfd()
            else "pidfd_open and start time: this kernel has no SO_PEERPIDFD",
            "namespaces": f"user and pid namespace of the daemon; others' user namespaces: {_user_namespaces()}",
            "filesystems": ", ".join(sorted(self._host.filesystems)),
            "executable": "device, inode and SHA-256 of /proc/PID/exe",
            "registered path": "dentry cache"
            if has_cached_lookup()
            else "plain open: this kernel has no RESOLVE_CACHED",
            "descriptor": "peer end held by the process, close-on-exec",
            "seccomp": "no more filters than the daemon",
            "mappings": "code of the program, of files of root, and what the entry allows",
            "tracer": f"TracerPid 0 at the look; {_yama()}",
            "launch": forbidden_by() or "ptrace: looked at before the first instruction",
            "message": "SCM_CREDENTIALS pid and executable, each message",
            "passed descriptors": "refused at the sender" if has_passrights() else "dropped, and the connection ends",
            "strict": "where the entry or the settings ask: changed code, traced threads, other holders",
        }

    def close(self) -> None:
        """Close what the looks at peers share."""
        self._shared.close()


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return -1


def _user_namespaces() -> str:
    """Who is allowed to make one can forge /proc/PID/exe (docs/threat-model.md, "PR_SET_MM")."""
    if allows_user_namespaces():
        return "allowed to every program (user.max_user_namespaces)"
    if setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "restricted by AppArmor"
    return "forbidden"


def _yama() -> str:
    scope = yama_scope()
    return "any program may trace later: this kernel has no Yama" if scope is None else f"yama.ptrace_scope {scope}"
