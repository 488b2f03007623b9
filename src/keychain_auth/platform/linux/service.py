"""Units for systemd: the daemon behind sockets that systemd holds. Texts are made by pure functions.

Why socket activation: the sockets are there from the login on and outlive every restart of the daemon, so a program
that connects meanwhile waits instead of being refused.

What no unit here may ever contain:

* An option that gives the daemon a mount, user or pid namespace of its own (``PrivateTmp=``, ``ProtectSystem=``,
  ``ProtectHome=``, ``ReadOnlyPaths=``, …): it serves only programs that see the machine as it does.
* An option that systemd carries out by a seccomp filter (``SystemCallFilter=``, ``RestrictAddressFamilies=``,
  ``RestrictNamespaces=``, ``MemoryDenyWriteExecute=``, ``LockPersonality=``, …): a caller may have as many filters as
  the daemon and no more (rule 5 of identity), so each filter of the daemon's would be one that an attacker may have.

``tests/cli/test_cli_install.py`` looks for both.
"""

from __future__ import annotations

import re

from keychain_auth.platform.plan import MARK, Plan, Request, ServiceFile, Step

NAME = "keychain-auth"
_HEAD = f"# {MARK}; keychain-auth uninstall removes it. Your own settings: systemctl --user edit {NAME}"
_PLAIN = re.compile(r"[\w@+=:,./-]+", re.ASCII)


def plan(request: Request) -> Plan:
    """Units for the service manager of this user (``systemd --user``)."""
    folder = f"{_config_home(request)}/systemd/user"
    control = ("systemctl", "--user")
    socket, service = f"{NAME}.socket", f"{NAME}.service"
    return Plan(
        manager="systemd, of this user",
        files=(
            ServiceFile(f"{folder}/{socket}", socket_unit(request)),
            ServiceFile(f"{folder}/{service}", service_unit(request)),
        ),
        probe=(*control, "show-environment"),
        start=(
            Step((*control, "daemon-reload"), "read the units", needed=True),
            Step((*control, "enable", socket, service), "start them at every login", needed=True),
            Step((*control, "start", socket), "listen", needed=True),
            Step((*control, "restart", service), "start the daemon", needed=True),
        ),
        stop=(Step((*control, "disable", "--now", socket, service), "stop the daemon"),),
        forget=(Step((*control, "daemon-reload"), "forget the units"),),
        folders=(folder, f"{_config_home(request)}/systemd"),
    )


def socket_unit(request: Request) -> str:
    """Both sockets. ``PassCredentials`` is SO_PASSCRED: every byte names its sender from the first one on."""
    folder, _, name = (request.socket or f"{request.runtime_dir}/agent.sock").rpartition("/")
    usual = folder == f"/run/user/{request.uid}/{NAME}"
    folder = f"%t/{NAME}" if usual else folder.replace("%", "%%")
    return f"""{_HEAD}.socket
[Unit]
Description=keychain-auth, sockets for programs and for the command line

[Socket]
ListenStream={folder}/{name.replace("%", "%%")}
ListenStream={folder}/admin.sock
SocketMode=0600
DirectoryMode=0700
PassCredentials=yes
Backlog=4096
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""


def service_unit(request: Request) -> str:
    """The daemon. ``notify``: it says when it serves, so a start that returns is one that worked."""
    words = [*request.command, *(("--socket", request.socket) if request.socket else ())]
    variables = "".join(f"Environment={quoted(f'{name}={value}')}\n" for name, value in request.environment)
    return f"""{_HEAD}.service
[Unit]
Description=keychain-auth, secrets for programs
Requires={NAME}.socket
After={NAME}.socket

[Service]
Type=notify
ExecStart={" ".join(quoted(word, command=True) for word in words)}
{variables}Restart=on-failure
{hardening()}
[Install]
WantedBy=default.target
Also={NAME}.socket
"""


def hardening() -> str:
    """What can be taken from the daemon without a namespace and without a filter."""
    return """NoNewPrivileges=yes
UMask=0077
LimitCORE=0
LimitMEMLOCK=8M
KeyringMode=private
"""


def quoted(word: str, *, command: bool = False) -> str:
    """``word`` as systemd reads it back (systemd.syntax(7), systemd.service(5) "Command lines")."""
    escaped = word.replace("%", "%%")
    if command:
        escaped = escaped.replace("$", "$$")
    if _PLAIN.fullmatch(escaped):
        return escaped
    escaped = escaped.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _config_home(request: Request) -> str:
    return request.config_dir.rpartition("/")[0]
