"""Where a file lies, and who could change it: what the command line says before the daemon looks itself."""

from __future__ import annotations

import os

from keychain_auth.identity.attest import LOCAL_FILESYSTEMS
from keychain_auth.platform.linux.filesystem import MountTable
from keychain_auth.platform.linux.syscalls import statx_descriptor
from keychain_auth.platform.posix.ownership import only_root_writes, writable_by_others

__all__ = ["LOCAL_FILESYSTEMS", "filesystem_of", "is_of_root", "only_root_writes", "writable_by_others"]


def filesystem_of(path: str) -> str:
    """The type of the filesystem that a real path lies on. Raises OSError."""
    mounts = MountTable()
    try:
        return mounts.filesystem_of(_mount_id(path))
    finally:
        mounts.close()


def is_of_root(path: str) -> bool:
    """Can nobody but root change the file, on a mount where root's is root's? Raises OSError."""
    mounts = MountTable()
    try:
        return not mounts.mount(_mount_id(path)).nosuid and only_root_writes(path)
    finally:
        mounts.close()


def _mount_id(path: str) -> int:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return statx_descriptor(fd).mount_id
    finally:
        os.close(fd)
