"""Who is on the other end of a Unix connection, as macOS says it: LOCAL_PEERCRED, LOCAL_PEERPID, LOCAL_PEERTOKEN.

Contract (sys/un.h): the user is that of connect(2). The pid and the audit token are those of the process that used the
other end *last*: where it is another one than at the first look, somebody else holds that end and has sent something,
or the process has run another program since (the pid version grows with fork and exec).

What it does not promise: that every piece of data is its own. macOS attaches no credentials to data: two processes
that write between two looks cannot be told apart by this. So the descriptor must be close-on-exec besides.

Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Protocol

from keychain_auth.platform.macos.libproc import TOKEN

SOL_LOCAL = 0
LOCAL_PEERCRED, LOCAL_PEERPID, LOCAL_PEERTOKEN = 1, 2, 6
_CRED = struct.Struct("=II68x")  # struct xucred: version, uid, number of groups, groups
_XUCRED_VERSION = 0


class Asked(Protocol):
    """A connected socket."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """See socket.getsockopt."""


class Token(NamedTuple):
    """An audit token: what of it is needed, and all of it for the system calls that take one."""

    pid: int
    version: int
    uid: int
    raw: bytes


def peer_uid(connection: Asked) -> int:
    """The effective user of the process that connected (or listens). Raises OSError."""
    raw = connection.getsockopt(SOL_LOCAL, LOCAL_PEERCRED, _CRED.size)
    version, uid = _CRED.unpack(raw.ljust(_CRED.size, b"\0"))
    if version != _XUCRED_VERSION or len(raw) < 8:
        raise OSError(0, "LOCAL_PEERCRED: another structure")
    return int(uid)


def peer_pid(connection: Asked) -> int:
    """The process that used the other end last. Raises OSError."""
    return int.from_bytes(connection.getsockopt(SOL_LOCAL, LOCAL_PEERPID, 4), "little")


def peer_token(connection: Asked) -> Token:
    """The audit token of that process. Raises OSError."""
    raw = connection.getsockopt(SOL_LOCAL, LOCAL_PEERTOKEN, TOKEN.size)
    if len(raw) != TOKEN.size:
        raise OSError(0, "LOCAL_PEERTOKEN: another structure")
    _, uid, _, _, _, pid, _, version = TOKEN.unpack(raw)
    return Token(pid, version, uid, raw)


__all__ = ["Asked", "Token", "peer_pid", "peer_token", "peer_uid"]
