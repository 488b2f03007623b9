"""``restart``: this process becomes the daemon that is installed now, and keeps its sockets.

Contract: nothing is stopped before the new daemon is known to load (its interpreter, its package), and before the files
that it obeys from its start are in order: a restart that could not start again is refused, and the old daemon goes on.
Whoever sent a request gets its answer; whoever connects meanwhile waits (``platform.handing_on``).

What it does not promise: an open vault. One that a passphrase opened is locked after a restart.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from keychain_auth import __version__
from keychain_auth.daemon.admin.socket import AdminCommands, AdminRequest, Command
from keychain_auth.daemon.settings import load_settings
from keychain_auth.daemon.state.policy_file import MISSING, UNSEALED, PolicyFile
from keychain_auth.daemon.state.settings_seal import SettingsSeal
from keychain_auth.errors import KeychainAuthError, quoted
from keychain_auth.platform.base import Peer

# What another version is asked has to be there in each: the table of commands, and the name of this one.
_TRY = """
import keychain_auth, keychain_auth.cli.app as app
app.commands.get_command(None, "start")
print(keychain_auth.__version__)
"""
_SECONDS = 20.0


class RestartCommands:
    """``begin`` is called once everything was looked at."""

    def __init__(
        self, policy_file: PolicyFile, settings: SettingsSeal, commands: AdminCommands, begin: Callable[[], None]
    ) -> None:
        self._policy_file = policy_file
        self._settings = settings
        self._commands = commands
        self._begin = begin

    @property
    def table(self) -> Mapping[str, Command]:
        """Command to method."""
        return {"restart": self._restart}

    async def _restart(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        """Begin the end; the answer is sent before it. Raises KeychainAuthError when the next one would not start."""
        if self._policy_file.problem:
            config, problem = self._policy_file.path, self._policy_file.problem
            raise KeychainAuthError(
                f"{config} is not in order, and a daemon does not start on it: {problem}",
                hint="keychain-auth policy seal" if problem in (UNSEALED, MISSING) else f"edit {quoted(config)}",
            )
        if self._settings.text is None:  # else the next daemon begins by what was accepted, whatever the file says
            load_settings(self._settings.path)
        version = await asyncio.get_running_loop().run_in_executor(None, installed_version)
        self._commands.record(peer, path, "restart", "", (), detail=f"version {__version__} to {version}")
        self._begin()
        return {"version": __version__, "next": version}


def installed_version() -> str:
    """The version that this interpreter would start now. Raises KeychainAuthError if it would start none."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _TRY], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/",
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unfit(str(error)) from None
    if done.returncode != 0:
        raise _unfit(done.stderr.strip().rpartition("\n")[2])
    return done.stdout.strip()


def _unfit(why: str) -> KeychainAuthError:
    return KeychainAuthError(
        f"the daemon that is installed now does not load ({why}): the old one goes on", hint="install the package again"
    )
