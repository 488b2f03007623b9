"""What ``keychain-auth doctor`` proposes for what is the system's affair: each system has commands of its own."""

from __future__ import annotations

from typing import NamedTuple


class Remedies(NamedTuple):
    """Commands. ``clock`` sets it by the network, ``room`` shows how full the disk is, ``key_memory`` lets the daemon
    lock its key's memory, ``restart`` makes the running daemon the installed one. "" where there is none."""

    clock: str
    room: str
    key_memory: str
    restart: str
