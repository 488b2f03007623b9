"""Where this daemon's files are. One value, handed to whoever needs it."""

from __future__ import annotations

import os
from typing import NamedTuple

from keychain_auth.platform import paths


class Places(NamedTuple):
    """Absolute paths (protocol, section "Files")."""

    agent_socket: str
    admin_socket: str
    policy: str
    pending: str
    settings: str
    vault: str
    vault_key: str
    audit_log: str
    trees: str
    builds: str


def find_places(socket: str | None = None) -> Places:
    """The places of this user's daemon; ``socket`` as given on the command line. Raises KeychainAuthError."""
    agent = paths.resolve_socket_path(socket)
    config, data = paths.config_dir(), paths.data_dir()
    return Places(
        agent_socket=agent,
        admin_socket=paths.admin_socket_path(agent),
        policy=os.path.join(config, "config.json"),
        pending=os.path.join(config, "pending.json"),
        settings=os.path.join(config, "daemon.toml"),
        vault=data,
        vault_key=os.path.join(data, "vault.key"),
        audit_log=os.path.join(paths.log_dir(), "audit.log"),
        trees=os.path.join(config, "trees"),
        builds=os.path.join(data, "builds.json"),
    )
