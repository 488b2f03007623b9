"""Where a file lies, and who could change it. See ``linux/place.py``.

Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

from keychain_auth.platform.macos import libproc
from keychain_auth.platform.posix.ownership import only_root_writes, writable_by_others

LOCAL_FILESYSTEMS = frozenset(("apfs", "hfs"))

__all__ = ["LOCAL_FILESYSTEMS", "filesystem_of", "is_of_root", "only_root_writes", "writable_by_others"]


def filesystem_of(path: str) -> str:
    """The type of the filesystem that a real path lies on. Raises OSError."""
    return libproc.filesystem(path).kind


def is_of_root(path: str) -> bool:
    """Can nobody but root change the file, on a mount where root's is root's? Raises OSError."""
    return not libproc.filesystem(path).nosuid and only_root_writes(path)
