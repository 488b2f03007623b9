"""Units for the daemon of the whole machine, with its user, its folders and ``keychain-auth-guarded``. Pure texts.

The rules of ``service`` hold here too: no option that means a namespace or a seccomp filter. What is left is enough to
leave the daemon with three capabilities, no way to gain others, no device but a TPM, and no other user's files to
write.
"""

from __future__ import annotations

from keychain_auth.platform.linux.become import NAMES, SERVES_ALL
from keychain_auth.platform.linux.service import NAME, hardening, quoted
from keychain_auth.platform.plan import MARK, Plan, Request, ServiceFile, Step

GUARDED_GROUP = "keychain-auth-clients"
GUARDED = "/usr/local/bin/keychain-auth-guarded"
_UNITS = "/etc/systemd/system"
_USERS = "/etc/sysusers.d/keychain-auth.conf"
_FOLDERS = "/etc/tmpfiles.d/keychain-auth.conf"
_HEAD = f"# {MARK} --system; sudo keychain-auth uninstall --system removes it."

_KEPT = (f"User {NAME} and group {GUARDED_GROUP} stay when it is uninstalled: nobody else shall get their numbers.",)
_NO_COMPILER = "No C compiler was found, so there is no keychain-auth-guarded. Install cc, and do this again."


def plan(request: Request) -> Plan:
    """For ``sudo keychain-auth install --system``."""
    agent, admin, service = f"{NAME}.socket", f"{NAME}-admin.socket", f"{NAME}.service"
    guarded, commands = _guarded(request)
    return Plan(
        manager="systemd, of the machine",
        files=(
            ServiceFile(_USERS, users()),
            ServiceFile(_FOLDERS, folders()),
            ServiceFile(f"{_UNITS}/{agent}", agent_unit(request)),
            ServiceFile(f"{_UNITS}/{admin}", admin_unit()),
            ServiceFile(f"{_UNITS}/{service}", service_unit(request)),
        ),
        probe=("systemctl", "show-environment"),
        prepare=(
            Step(("systemd-sysusers", _USERS), "make the daemon's user", needed=True),
            Step(("systemd-tmpfiles", "--create", _FOLDERS), "make its folders", needed=True),
            *commands,
        ),
        start=(
            Step(("systemctl", "daemon-reload"), "read the units", needed=True),
            Step(("systemctl", "enable", agent, admin, service), "start them with the machine", needed=True),
            Step(("systemctl", "start", agent, admin), "listen", needed=True),
            Step(("systemctl", "restart", service), "start the daemon", needed=True),
        ),
        stop=(Step(("systemctl", "disable", "--now", agent, admin, service), "stop the daemon"),),
        forget=(Step(("systemctl", "daemon-reload"), "forget the units"),),
        products=guarded,
        notes=_KEPT if guarded else (*_KEPT, _NO_COMPILER),
    )  # fmt: skip


def users() -> str:
    """For sysusers.d(5): a user that nobody can log in as, and a group that nobody is in."""
    return f"""{_HEAD}
u {NAME} - "keychain-auth, secrets for programs" /var/lib/keychain-auth
g {GUARDED_GROUP} -
"""


def folders() -> str:
    """For tmpfiles.d(5)."""
    private = "".join(f"d {path}/{NAME} 0700 {NAME} {NAME}\n" for path in ("/etc", "/var/lib", "/var/log"))
    return f"{_HEAD}\n{private}d /run/{NAME} 0755 root root\n"


def agent_unit(request: Request) -> str:
    """The socket of programs, for everybody or for a group."""
    access = f"SocketMode=0660\nSocketGroup={request.group}" if request.group else "SocketMode=0666"
    return f"""{_HEAD}
[Unit]
Description=keychain-auth, the socket of programs

[Socket]
ListenStream=/run/{NAME}/agent.sock
{access}
DirectoryMode=0755
PassCredentials=yes
Backlog=4096
RemoveOnStop=yes
Service={NAME}.service

[Install]
WantedBy=sockets.target
"""


def admin_unit() -> str:
    """The socket of root's commands, which become the daemon's user."""
    return f"""{_HEAD}
[Unit]
Description=keychain-auth, the socket of its administration

[Socket]
ListenStream=/run/{NAME}/admin.sock
SocketMode=0600
SocketUser={NAME}
DirectoryMode=0755
PassCredentials=yes
RemoveOnStop=yes
Service={NAME}.service

[Install]
WantedBy=sockets.target
"""


def service_unit(request: Request) -> str:
    """The daemon, as its own user."""
    capabilities = " ".join(NAMES[number] for number in SERVES_ALL)
    return f"""{_HEAD} Your own settings: systemctl edit {NAME}
[Unit]
Description=keychain-auth, secrets for programs of all users
Requires={NAME}.socket {NAME}-admin.socket
After={NAME}.socket {NAME}-admin.socket

[Service]
Type=notify
User={NAME}
Group={NAME}
ExecStart={" ".join(quoted(word, command=True) for word in request.command)}
Sockets={NAME}.socket {NAME}-admin.socket
Restart=on-failure
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
DevicePolicy=closed
DeviceAllow=/dev/tpmrm0 rw
{hardening()}
[Install]
WantedBy=multi-user.target
Also={NAME}.socket {NAME}-admin.socket
"""


def _guarded(request: Request) -> tuple[tuple[str, ...], tuple[Step, ...]]:
    """What is compiled, and how; nothing without a compiler. Made beside its place, and moved there with its mode."""
    if not request.compiler:
        return (), ()
    fresh = f"{GUARDED}.new"
    flags = ("-O2", "-Wall", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-fPIE", "-pie", "-Wl,-z,relro,-z,now")
    return (GUARDED,), (
        Step((request.compiler, *flags, "-o", fresh, request.launcher), "compile keychain-auth-guarded", needed=True),
        Step(("chown", f"root:{GUARDED_GROUP}", fresh), "give it its group", needed=True),
        Step(("chmod", "2755", fresh), "make it setgid", needed=True),
        Step(("mv", "-f", fresh, GUARDED), "put it in its place", needed=True),
    )
