"""A LaunchAgent: launchd starts the daemon in the log-in of the person. Texts are made by pure functions.

Contract of the agent: it runs as this user, in the graphical log-in (``gui/UID``), where the keychain opens; it is
started again when it fails (not when it was told to end), and what it makes is private (umask 077, no core files). Its
log goes to ``daemon.log`` among the user's logs.

Not verified on hardware: written by launchd.plist(5) and launchctl(1).
"""

from __future__ import annotations

import plistlib
import shlex

from keychain_auth.platform.plan import MARK, Plan, Request, ServiceFile, Step

LABEL = "keychain-auth"
_UMASK = 0o077
_AFTER_HEAD = b'<plist version="1.0">'


def plan(request: Request) -> Plan:
    """The agent of this user."""
    path = f"{request.home}/Library/LaunchAgents/{LABEL}.plist"
    domain, name = f"gui/{request.uid}", f"gui/{request.uid}/{LABEL}"
    # An agent of before has to go first, and goes in its own time: then bootstrap says "operation in progress" (37).
    load = (
        f"launchctl bootout {name} 2>/dev/null; n=0; "
        f"until launchctl bootstrap {domain} {shlex.quote(path)}; do "
        "n=$((n + 1)); [ $n -lt 5 ] || exit 1; sleep 1; done"
    )
    return Plan(
        manager="launchd, of this user",
        files=(ServiceFile(path, agent(request)),),
        probe=("/bin/launchctl", "print", domain),
        start=(
            Step(("/bin/launchctl", "enable", name), "allow the agent"),
            Step(("/bin/sh", "-c", load), "load the agent, and start the daemon", needed=True),
        ),
        stop=(Step(("/bin/launchctl", "bootout", name), "stop the daemon"),),
    )


def agent(request: Request) -> str:
    """The property list."""
    content = plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": [*request.command, *(("--socket", request.socket) if request.socket else ())],
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "Umask": _UMASK,
            "HardResourceLimits": {"Core": 0},
            "EnvironmentVariables": dict(request.environment),
            "StandardErrorPath": f"{request.home}/Library/Logs/keychain-auth/daemon.log",
        }
    )
    note = f"<!-- {MARK}; keychain-auth uninstall removes it -->\n".encode()
    return content.replace(_AFTER_HEAD, note + _AFTER_HEAD, 1).decode()
