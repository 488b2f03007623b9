"""How the daemon becomes a service of this machine: the plan of the service manager that is here.

A plan (``platform.plan``) is carried out by the command line. Here is only the choice, by the operating system.
"""

from __future__ import annotations

import sys

from keychain_auth.errors import KeychainAuthError
from keychain_auth.platform.plan import Plan, Request


def plan(request: Request) -> Plan:
    """The plan for this machine's service manager. Raises KeychainAuthError where there is none that we know."""
    system: str = sys.platform  # a plain text: so that type checkers look at all of it on every system
    if system == "linux":
        from keychain_auth.platform.linux import service  # noqa: PLC0415 - one of several systems

        return service.plan(request)
    if system == "darwin":
        from keychain_auth.platform.macos import service as macos  # noqa: PLC0415 - as above

        return macos.plan(request)
    if system == "win32":
        from keychain_auth.native.account import account_name  # noqa: PLC0415 - as above
        from keychain_auth.platform.windows import service as windows  # noqa: PLC0415

        return windows.plan(request, account_name())
    raise _unknown()


def plan_system(request: Request) -> Plan:
    """The plan for a daemon that serves all users of this machine. Raises KeychainAuthError where there is none."""
    if sys.platform == "linux":
        from keychain_auth.platform.linux import system_service  # noqa: PLC0415 - one of several systems

        return system_service.plan(request)
    raise _unknown()


def _unknown() -> KeychainAuthError:
    return KeychainAuthError(f"there is no such service on {sys.platform} that keychain-auth could be")
