"""What files of ``linux/`` are asked for, on systems that have none of it: nothing is in the way, nothing is known."""

from __future__ import annotations

import sys
from typing import NoReturn

from keychain_auth.errors import KeychainAuthError
from keychain_auth.platform.base import Starter

KERNEL_IS_LOOKED_AT = False


def allows_user_namespaces() -> bool:
    """There are no user namespaces."""
    return False


def diagnoses_sockets() -> bool:
    """Who holds a socket is found out by other means."""
    return True


def lacks() -> tuple[str, ...]:
    """Nothing that the daemon would use if it were there."""
    return ()


def clock_is_synchronised() -> bool | None:
    """It is not told to programs."""
    return None


def unit_of(pid: int) -> str:
    """There are no units of systemd."""
    return ""


def keep_mapped_code() -> tuple[str, ...]:
    """A library in use cannot be written (Windows), or is not run any more then if it is signed (macOS)."""
    return ()


def yama_scope() -> int | None:
    """There is no Yama."""
    return None


def starters(pid: int) -> list[Starter]:
    """Who started a process is not looked up."""
    return []


def own_ancestors(filesystems: frozenset[str]) -> NoReturn:
    """A parent cannot be pinned, so none is known. Raises KeychainAuthError."""
    raise KeychainAuthError(f"on {sys.platform} it cannot be known which program started this one")
