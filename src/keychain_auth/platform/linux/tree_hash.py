"""SHA-256 of the files that ``tree`` found, under the rules of ``filehash``."""

from __future__ import annotations

import os
import threading

from keychain_auth.platform.base import Digest
from keychain_auth.platform.linux import filehash, tree
from keychain_auth.platform.linux.filesystem import MountTable
from keychain_auth.platform.linux.syscalls import statx_descriptor


def hash_found(item: tree.Found, limit: int) -> Digest:
    """Hash the file, wherever it lies. Raises FileTooLarge, OSError."""
    fd = tree.open_found(item)
    try:
        return filehash.digest(fd, limit, nosuid=True)
    finally:
        os.close(fd)


class TreeHash:
    """Hashes what lies on filesystems of the kernel's own; for several threads. ``limit``: bytes of one file."""

    def __init__(self, filesystems: frozenset[str], limit: int) -> None:
        self._filesystems = filesystems
        self._limit = limit
        self._mounts = MountTable()
        self._lock = threading.Lock()

    def digest(self, item: tree.Found) -> Digest:
        """Of the very version that ``item`` is. Raises TreeRefused, FileTooLarge, OSError."""
        fd = tree.open_found(item)
        try:
            made = filehash.digest(fd, self._limit, nosuid=self._is_nosuid(fd))
        finally:
            os.close(fd)
        if made.key != item.key:
            raise tree.TreeRefused(f"{item.path} is changing")
        return made

    def _is_nosuid(self, fd: int) -> bool:
        with self._lock:
            mount = self._mounts.mount(statx_descriptor(fd).mount_id)
        if mount.filesystem not in self._filesystems:
            raise tree.TreeRefused(f"it imports from {mount.filesystem}, which the daemon does not trust")
        return mount.nosuid
