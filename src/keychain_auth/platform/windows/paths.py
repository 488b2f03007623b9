"""Where Windows keeps what: the roaming folder for the policy, the local one for vault and record, a pipe for talk.

Contract (protocol, sections "Transport" and "Files"): pure look-ups of the environment, as in ``linux.paths``.
"""

from __future__ import annotations

import os

from keychain_auth.errors import InvalidRequest, KeychainAuthError

NAME = "keychain-auth"
PIPES = "\\\\.\\pipe\\"
AGENT_PIPE = PIPES + NAME
_ADMIN = "-admin"
_LONGEST_NAME = 256  # of a pipe, "Pipe Names"


def config_dir() -> str:
    """``%APPDATA%\\keychain-auth``."""
    return _base("APPDATA")


def data_dir() -> str:
    """``%LOCALAPPDATA%\\keychain-auth``."""
    return _base("LOCALAPPDATA")


def admin_pipe(agent: str) -> str:
    """The pipe for administration that belongs to the pipe ``agent``."""
    return agent + _ADMIN


def usable_pipe(path: str, name: str) -> str:
    """``path`` as a pipe's name. Raises InvalidRequest."""
    plain = path.replace("/", "\\")
    pipe = plain.removeprefix(PIPES)
    if not plain.lower().startswith(PIPES) or not pipe or "\\" in pipe or "\0" in pipe:
        raise InvalidRequest(f"{name} must be the name of a pipe, {PIPES}NAME; not {path!r}")
    if len(plain) + len(_ADMIN) > _LONGEST_NAME:
        raise InvalidRequest(f"{name} is longer than a pipe's name can be", hint="choose a shorter one")
    return plain


def _base(variable: str) -> str:
    folder = os.environ.get(variable, "")
    if not os.path.isabs(folder):
        raise KeychainAuthError(f"%{variable}% is not set", hint=f"set {variable}=C:\\Users\\NAME\\AppData\\...")
    return os.path.join(folder, NAME)
